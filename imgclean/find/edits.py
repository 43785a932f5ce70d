"""What was done to a picture to make another one of it, in a person's words. Arrays only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from .align import Alignment, View, covers, rescaled, scale_of, warp

SAMPLE = 1500  # places that colours are compared at
LEAST = 12  # grey levels by which a block differs that something lies on


class Geometry(NamedTuple):
    "What a transform does to picture i to make picture j"

    scale: float  # of lengths
    stretch: float  # of the longer direction against the shorter; 1: none
    turn: float  # degrees clockwise, -180 to 180, after mirroring
    mirrored: bool


def geometry(matrix: np.ndarray, flip: bool) -> Geometry:
    "What made j of i, from the (2, 3) matrix that brings j back."
    linear = matrix[:, :2]
    stretch = np.linalg.norm(linear, axis=0)
    back = np.degrees(np.arctan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1]))
    scale = 1 / scale_of(matrix)
    # A mirror behind a turn is a mirror before the opposite turn.
    return Geometry(scale, float(stretch.max() / stretch.min()), float(back if flip else -back), flip)


def full_size(a: View, b: View, found: Alignment) -> np.ndarray:  # (2, 3)
    "The matrix of `found` between the pixels of the files' pictures."
    return rescaled(found.matrix, *(np.array(v.size) / v.grey.shape[1::-1] for v in (a, b)))


def edits(a: View, b: View, found: Alignment) -> list[str]:
    "What was done to `a` to make `b`, most telling first; nothing where nothing but compression is to be seen."
    matrix = full_size(a, b, found)
    made = geometry(matrix, found.mirrored)
    said = _turned(made)
    said += _frame(a, b, matrix, made, said)
    if made.stretch > 1.05:
        said.append("stretched")
    elif a.size != b.size and abs(made.scale - 1) > 0.04:
        said.append(f"resized to {100 * made.scale:.0f} %")
    return said + _painted(a, b, found)


def _turned(made: Geometry) -> list[str]:
    quarters = round(made.turn / 90) % 4
    off = (made.turn + 45) % 90 - 45
    if abs(off) > 1.5:
        way = "clockwise" if made.turn > 0 else "counterclockwise"
        turn = [f"rotated by {abs(made.turn):.0f}° {way}"]
    elif made.mirrored and quarters == 2:
        return ["flipped upside down"]
    else:
        way = {1: "90° clockwise", 2: "180°", 3: "90° counterclockwise"}
        turn = [f"rotated by {way[quarters]}"] if quarters else []
    return ["mirrored", *turn] if made.mirrored else turn


def _frame(a: View, b: View, matrix: np.ndarray, made: Geometry, said: list[str]) -> list[str]:
    "Whether `b` shows less than `a`, or has something around it."
    cover_a, cover_b = covers(a.size, b.size, matrix)
    skew = abs((made.turn + 45) % 90 - 45)
    slack = 0.03 + (
        0.45 if skew > 12 else 0.03 * skew if skew > 1.5 else 0
    )  # corners lost and won by turning
    found = []
    if cover_a < 1 - slack:
        found.append(f"cropped to {100 * cover_a:.0f} %")
    if cover_b < 1 - slack:
        around = _around(a, b, matrix, made.mirrored)
        found.append("framed" if around else f"shows more: the first is {100 * cover_b:.0f} % of it")
    return found


def _around(a: View, b: View, matrix: np.ndarray, flip: bool) -> bool:
    "Whether what `b` shows around `a` is mostly of one colour."
    to_b = rescaled(matrix, a.rgb.shape[1] / a.size[0], b.rgb.shape[1] / b.size[0])
    back = cv2.invertAffineTransform(to_b)
    h, w = b.rgb.shape[:2]
    inside = cv2.warpAffine(np.ones(a.rgb.shape[:2], np.uint8), back, (w, h))
    inside = cv2.dilate(inside, np.ones((3, 3), np.uint8))
    outside = b.rgb[:, ::-1][inside == 0] if flip else b.rgb[inside == 0]
    if len(outside) < 20:
        return False
    off = np.abs(outside.astype(np.int16) - np.median(outside, axis=0)).max(axis=1)
    return bool((off < 24).mean() > 0.7)


def _painted(a: View, b: View, found: Alignment) -> list[str]:
    "What happened to the colours and to single places, where both pictures are."
    x = a.rgb.astype(np.float32)
    y, mask = warp(b.rgb.astype(np.float32), rescaled(found.matrix, 0.5), found.mirrored, x.shape)
    size = scale_of(found.matrix)
    sigma = float(np.clip(size, 1, 4))  # an enlarged picture is less sharp, and nobody painted on it
    edge = 2 * round(2 * sigma) + 1
    mask = cv2.erode(mask.view(np.uint8), np.ones((edge, edge), np.uint8)) > 0
    if np.count_nonzero(mask) < 200:
        return []
    xs, ys = (cv2.split(cv2.GaussianBlur(z, (0, 0), sigma)) for z in (x, y))  # plain arrays are faster
    some = _sampled(mask)
    colours = _colours(*(_at(z, some) for z in (xs, ys)))
    if colours:  # what lies on top is then looked for in the brightness alone
        xs, ys = ([cv2.cvtColor(cv2.merge(z), cv2.COLOR_RGB2GRAY)] for z in (xs, ys))
    return colours + _places(xs, ys, mask, some) + (_sharpness(x, y, mask) if 0.8 < size < 1.25 else [])


def _colours(x: np.ndarray, y: np.ndarray) -> list[str]:
    "From red, green and blue of the same places, (3, n) each."
    chroma_x, chroma_y = (float((z.max(axis=0) - z.min(axis=0)).mean()) for z in (x, y))
    if chroma_y < 5 and chroma_x > 12:
        return ["in black and white"]
    if chroma_x < 5 and chroma_y > 12:
        return ["the first is in black and white"]
    return ["recoloured"] if _quantile(np.abs(x - y).max(axis=0), 0.5) > 14 else []


def _places(
    x: Sequence[np.ndarray], y: Sequence[np.ndarray], mask: np.ndarray, some: np.ndarray
) -> list[str]:
    "Whether something lies on top: a few blocks that differ much more than the rest."
    rest = _residual(x, y, some) * mask
    h, w = (n // 4 for n in mask.shape)
    blocks, share = (  # means of 4 x 4
        cv2.resize(z[: 4 * h, : 4 * w], (w, h), interpolation=cv2.INTER_AREA)
        for z in (rest, mask.astype(np.float32))
    )
    seen = share > 0.9
    n = np.count_nonzero(seen)
    if n < 40:
        return []
    usual, high = (_quantile(blocks[seen], q) for q in (0.5, 0.75))
    odd = seen & (blocks > max(LEAST, 3 * usual, 2 * high))
    odd = cv2.morphologyEx(odd.view(np.uint8), cv2.MORPH_CLOSE, np.ones((2, 2), np.uint8))
    stats = cv2.connectedComponentsWithStats(odd)[2]
    largest = stats[1:, cv2.CC_STAT_AREA].max(initial=0)
    return ["text or sticker on top"] if largest >= 4 and np.count_nonzero(odd) < 0.4 * n else []


def _residual(x: Sequence[np.ndarray], y: Sequence[np.ndarray], some: np.ndarray) -> np.ndarray:
    "How much `y` differs from `x` once its contrast and brightness are fitted at `some` places, (h, w) in grey levels."
    rest = np.zeros(x[0].shape, dtype=np.float32)
    around = np.ones((3, 3), np.uint8)
    for u, v, slope, shift in zip(x, y, *_robust_lines(_at(x, some), _at(y, some)), strict=True):
        fitted = _clipped(slope * u + shift)
        # An edge that is a pixel off is no difference: what lies within the range of the neighbours agrees.
        low, high = cv2.erode(fitted, around), cv2.dilate(fitted, around)
        rest = np.maximum(rest, np.maximum(v - high, low - v))
    return rest


def _sampled(mask: np.ndarray) -> np.ndarray:
    "Places in `mask`, flat; of many about `SAMPLE`, which tell colours as well and are faster."
    places = np.flatnonzero(mask)
    return places[:: max(len(places) // SAMPLE, 1)]


def _at(channels: Sequence[np.ndarray], places: np.ndarray) -> np.ndarray:  # (c, n)
    "What `channels` show at `places`, which are flat."
    return np.stack([channel.ravel()[places] for channel in channels])


def _robust_lines(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "Slope and shift that make each row of `v` of that of `u` where nothing lies on top."
    slope, shift = _lines(u, v, np.ones_like(u))
    off = np.abs(_clipped(slope[:, None] * u + shift[:, None]) - v)
    middle = u.shape[1] // 2
    usual = np.partition(off, middle, axis=1)[:, middle, None]
    return _lines(u, v, (off <= 2.5 * usual + 2).astype(u.dtype))


def _lines(u: np.ndarray, v: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "Slope and shift that make each row of `v` of that of `u`, by weighted least squares."

    def total(y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.einsum("cn,cn->c", y, z)

    n = weight.sum(axis=1)
    middle_u, middle_v = total(weight, u) / n, total(weight, v) / n
    du, dv = u - middle_u[:, None], v - middle_v[:, None]
    weighted = weight * du
    spread = total(weighted, du)
    # Of one colour there is no contrast to fit.
    slope = np.where(spread > n, total(weighted, dv) / np.maximum(spread, 1), np.float32(1))
    return slope, middle_v - slope * middle_u


def _clipped(z: np.ndarray) -> np.ndarray:
    "`z` within 0 and 255; a third of the time of `np.clip`."
    return np.minimum(np.maximum(z, np.float32(0)), np.float32(255))


def _quantile(z: np.ndarray, q: float) -> float:
    "The value that a share `q` lies below; a tenth of the time of `np.median`, which makes sure of NaN."
    k = int(q * len(z))
    return float(np.partition(z, k)[k])


def _sharpness(x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> list[str]:
    where = mask.view(np.uint8)

    def detail(z: np.ndarray) -> float:
        grey = cv2.cvtColor(z, cv2.COLOR_RGB2GRAY)
        edges = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
        return cv2.mean(edges, where)[0] / max(float(cv2.meanStdDev(grey, mask=where)[1][0, 0]), 1)

    ratio = detail(y) / max(detail(x), 1e-6)
    return ["blurred"] if ratio < 0.55 else ["sharper or noisier"] if ratio > 1.9 else []
