"""Two pictures laid on each other: keypoints, mirror, RANSAC, and how well what overlaps agrees. Arrays only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

SIDE = 256  # longer side in which keypoints are looked for, and the unit of every matrix here
COMPARED = 0.25  # of `SIDE`: the size in which what overlaps is compared
FINE = 0.5  # in which words and fractions of a pixel are looked for
THUMB = 32
KEYPOINTS = 300
COARSE = 0.25  # in which keypoints are looked for: enough to tell whether there is an alignment
SIGMA = (
    0.9  # of the first blur of SIFT, in pixels of that size; fewer pixels for the same scale than Lowe's 1.6
)
MATCHES = 4  # of keypoints, below which no map is looked for
RATIO = 0.8  # of the distances to the nearest and second nearest descriptor, Lowe 2004
TOLERANCE = 4.0  # pixels that a keypoint may be off, for RANSAC
ENOUGH = 15  # tracked points that a map is fitted to
# A SIFT descriptor is 4 x 4 histograms of 8 directions, laid out along the keypoint's own: in the mirror, rows and sense
# of the directions are the other way round. So nobody needs to look at the mirror image itself.
MIRRORED = np.arange(128).reshape(4, 4, 8)[::-1][..., (-np.arange(8)) % 8].ravel()
CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64)
_places = np.arange(THUMB**2).reshape(THUMB, THUMB)
TURNED = np.stack([np.rot90(p, k).ravel() for p in (_places, _places[:, ::-1]) for k in range(4)])


class View(NamedTuple):
    "What is kept of a picture"

    size: tuple[int, int]  # width and height of the file's picture in pixels
    rgb: np.ndarray  # (h, w, 3) uint8, half the sides of `grey`
    grey: np.ndarray  # (h, w) uint8, longer side `SIDE`
    thumb: np.ndarray  # (THUMB**2,) float32, squeezed, mean 0 and length 1, or zeros where it is plain


class Keypoints(NamedTuple):
    "SIFT keypoints, strongest first"

    xy: np.ndarray  # (n, 2) float32, pixels of `View.grey`
    descriptors: np.ndarray  # (n, 128) float32, RootSIFT


class Alignment(NamedTuple):
    "A guess how one picture lies on another"

    matrix: np.ndarray  # (2, 3) float64, from pixels of j's `grey` (mirrored first, if so) to pixels of i's
    mirrored: bool
    inliers: int = 0  # matches of keypoints that agree with it
    matches: int = 0  # those that there were


class Overlap(NamedTuple):
    "How well two pictures agree where one lies on the other"

    ncc: float  # normalised cross-correlation of both, blurred
    agree: float  # share of the textured places whose surroundings correlate
    texture: float  # share of the overlap that is textured in either
    cover_i: float  # share of picture i that lies under picture j
    cover_j: float


NOWHERE = Overlap(0.0, 0.0, 0.0, 0.0, 0.0)


def view_of(image: Image.Image, size: tuple[int, int]) -> View:
    "The `View` of an RGB picture, whose file's picture is `size`."
    rgb = np.asarray(image)
    large = _fit(rgb, SIDE)
    grey = cv2.cvtColor(large, cv2.COLOR_RGB2GRAY)
    thumb = cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    thumb = cv2.GaussianBlur(thumb.astype(np.float32), (0, 0), 0.7)
    return View(
        size,
        cv2.resize(large, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        grey,
        _unit(thumb.ravel()),
    )


def keypoints(grey: np.ndarray, size: float = COARSE) -> Keypoints:
    """At most `KEYPOINTS` SIFT keypoints of a grey picture.

    Looked for at a part of its `size`, as SIFT doubles a picture before it begins, and its time goes by pixels.
    """
    small = resized(grey, size)
    sift = cv2.SIFT_create(nfeatures=KEYPOINTS, contrastThreshold=0.02, sigma=SIGMA)
    found, descriptors = sift.detectAndCompute(small, None)
    if not found:
        return Keypoints(np.empty((0, 2), np.float32), np.empty((0, 128), np.float32))
    scale = np.array(grey.shape[::-1], np.float32) / small.shape[::-1]
    xy = (cv2.KeyPoint.convert(found) + 0.5) * scale - 0.5  # centres of pixels, not their corners
    return Keypoints(xy[:KEYPOINTS].astype(np.float32), _root(descriptors[:KEYPOINTS]))


def by_keypoints(
    a: Keypoints,
    b: Keypoints,
    width: int,  # of `b`'s picture
    first: bool = False,  # whether the mirror comes first
) -> Iterator[Alignment]:
    """How `b` and how its mirror lie on `a`; nothing where few keypoints match or agree.

    Of 100 pairs of different photos 70 have fewer than `MATCHES` either way, of pairs of copies next to none.
    """
    if min(len(a.xy), len(b.xy)) < MATCHES:
        return
    for flip in (first, not first):
        rows, cols = _matches(a.descriptors, b.descriptors[:, MIRRORED] if flip else b.descriptors)
        if len(rows) >= MATCHES:
            source = b.xy[cols]
            if flip:
                source = source * np.float32([-1, 1]) + np.float32([width - 1, 0])
            best = _ransac(source, a.xy[rows])
            if best is not None:
                yield Alignment(best[0], flip, best[1], len(rows))


def directly(a: View, b: View) -> tuple[float, Alignment]:
    "The best of the 8 ways to lay all of `b` on all of `a`, and its correlation of thumbnails."
    scores = b.thumb[TURNED] @ a.thumb
    best = int(scores.argmax())
    target = np.roll(CORNERS, best % 4, axis=0)  # a quarter turn to the left
    source, target = (c * _wh(v.grey) - 0.5 for c, v in ((CORNERS, b), (target, a)))
    matrix = cv2.getAffineTransform(source[:3].astype(np.float32), target[:3].astype(np.float32))
    return float(scores[best]), Alignment(matrix, bool(best >= 4))


def overlap(a: View, b: View, found: Alignment, size: float = COMPARED) -> Overlap:
    "How well `a` and `b` agree where `found` lays one on the other, seen at a part of their `size`."
    cover_i, cover_j = covers(_wh(a.grey), _wh(b.grey), found.matrix)
    x, y, mask = laid(a, b, found, size)
    if np.count_nonzero(mask) < 800 * size**2:
        return NOWHERE._replace(cover_i=cover_i, cover_j=cover_j)
    ncc = _ncc(x[mask], y[mask])
    local, textured = _local_ncc(x, y, mask, odd(26 * size))
    inside = _eroded(mask, odd(10 * size))
    textured &= inside
    n = np.count_nonzero(textured)
    agree = np.count_nonzero(local[textured] > 0.5) / n if n >= 240 * size**2 else 0.0
    return Overlap(ncc, agree, n / max(np.count_nonzero(inside), 1), cover_i, cover_j)


def nudged(a: View, b: View, found: Alignment) -> Alignment:
    """`found`, moved by the fraction of a pixel by which points of `a` are seen beside it in `b`; as it was where few are.

    Points are tracked by Lucas and Kanade's method, a tenth of the time of finer keypoints.
    """
    x, y = (resized(v.grey, FINE) for v in (a, b))
    y, mask = warp(y, rescaled(found.matrix, FINE), found.mirrored, x.shape)
    at = cv2.goodFeaturesToTrack(x, 120, 0.01, 4, mask=mask.astype(np.uint8))
    if at is None or len(at) < ENOUGH:
        return found
    to, seen, _ = cv2.calcOpticalFlowPyrLK(x, y, at, None, winSize=(11, 11), maxLevel=1)
    seen = seen.ravel() > 0
    if seen.sum() < ENOUGH:
        return found
    shift, inlier = cv2.estimateAffine2D(to[seen], at[seen], ransacReprojThreshold=0.5)
    if shift is None or inlier.sum() < ENOUGH or not np.allclose(shift[:, :2], np.eye(2), atol=0.1):
        return found
    shift = rescaled(shift, 1 / FINE)
    matrix = shift[:, :2] @ found.matrix
    matrix[:, 2] += shift[:, 2]
    return found._replace(matrix=matrix)


def resized(grey: np.ndarray, size: float) -> np.ndarray:
    "A picture at a part of its `size`."
    return cv2.resize(grey, None, fx=size, fy=size, interpolation=cv2.INTER_AREA)


def covers(size_a: ArrayLike, size_b: ArrayLike, matrix: np.ndarray) -> tuple[float, float]:
    "Shares of picture a and of picture b, (width, height), that lie under each other where `matrix` lays b on a."
    a, b = (CORNERS * size - 0.5 for size in (size_a, size_b))
    b = (b @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
    both, _ = cv2.intersectConvexConvex(a.astype(np.float32), b)
    return float(both / np.prod(size_a)), float(both / max(cv2.contourArea(b), 1e-6))


def laid(a: View, b: View, found: Alignment, size: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "Both grey pictures at a part of their `size`, blurred alike, the second laid on the first, and where both are."
    x, y = (resized(v.grey, size).astype(np.float32) for v in (a, b))
    matrix = rescaled(found.matrix, size)
    scale = scale_of(matrix)
    if scale < 0.7:  # shrunk pictures are smoothed before
        y = cv2.GaussianBlur(y, (0, 0), min(0.5 / scale, 4.0))
    y, mask = warp(y, matrix, found.mirrored, x.shape)
    weight = mask.astype(np.float32)
    sigma = 2.4 * size * min(max(scale, 1.0), 5.0)
    share = np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3)  # what lies around it must not bleed in
    return *(cv2.GaussianBlur(z * weight, (0, 0), sigma) / share for z in (x, y)), mask


def warp(y: np.ndarray, matrix: np.ndarray, flip: bool, shape: tuple) -> tuple[np.ndarray, np.ndarray]:
    "`y`, mirrored where `flip`, seen from another picture of `shape`, and where it is."
    y = np.ascontiguousarray(y[:, ::-1]) if flip else y
    corners = CORNERS * (y.shape[1] - 1, y.shape[0] - 1) @ matrix[:, :2].T + matrix[:, 2]
    mask = np.zeros(shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, np.rint(corners * 16).astype(np.int32), 1, shift=4)
    y = cv2.warpAffine(y, matrix, (shape[1], shape[0]), borderMode=cv2.BORDER_REPLICATE)
    return y, _eroded(mask, 3)  # pixels that the edge runs through are partly outside


def rescaled(matrix: np.ndarray, a: ArrayLike, b: ArrayLike | None = None) -> np.ndarray:  # (2, 3)
    """`matrix` between pictures that are enlarged: the target `a` times, the source `b` times, default as much.

    One factor each, or one for each of x and y.
    """
    a = np.atleast_1d(a)
    out = np.empty((2, 3))
    out[:, :2] = a[:, None] * matrix[:, :2] / (a if b is None else np.atleast_1d(b))
    # The centre of the first pixel lies half a pixel from the corner, whatever its size.
    out[:, 2] = a * (matrix[:, 2] + 0.5 - matrix[:, :2].sum(axis=1) / 2) - 0.5 + out[:, :2].sum(axis=1) / 2
    return out


def scale_of(matrix: np.ndarray) -> float:
    "How much longer things are in the target of an affine map, on average."
    return float(abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0])) ** 0.5


def odd(n: float) -> int:
    "The odd number next to `n`."
    return 2 * int(n // 2) + 1


def _eroded(mask: np.ndarray, n: int) -> np.ndarray:  # bool
    "Where all of the n x n surroundings, but for those beyond the edge, are in `mask`."
    return cv2.erode(mask.view(np.uint8), np.ones((n, n), np.uint8)) > 0


def _matches(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "Rows of `a` and of `b` that are nearest, clearly so, each row of `b` once."
    sims = a @ b.T
    every = np.arange(len(a))
    nearest = sims.argmax(axis=1)
    first = sims[every, nearest]
    sims[every, nearest] = -1
    second = sims.max(axis=1)
    clear = np.flatnonzero(1 - first < RATIO**2 * (1 - second))  # a squared distance is 2 - 2 cosines
    clear = clear[np.argsort(-first[clear], kind="stable")]
    cols, once = np.unique(nearest[clear], return_index=True)
    return clear[once], cols


def _root(descriptors: np.ndarray) -> np.ndarray:
    "RootSIFT, Arandjelovic and Zisserman 2012."
    d = descriptors.astype(np.float32)
    return np.sqrt(d / np.maximum(d.sum(axis=1, keepdims=True), 1e-6))


def _ransac(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, int] | None:
    "The similarity or, where clearly more agree with it, the affine map from `source` to `target`."
    kept = dict(method=cv2.RANSAC, ransacReprojThreshold=TOLERANCE, maxIters=1000, confidence=0.99)
    places = np.rint(np.hstack([source, target]) / 2) @ np.float64([1, 1e3, 1e6, 1e9])
    best, most = None, len(np.unique(places))  # several keypoints may lie in one place
    for fit, margin in ((cv2.estimateAffinePartial2D, 0), (cv2.estimateAffine2D, 2)):
        if len(source) < 3 + margin or (best and best[1] + margin > most):
            continue
        matrix, inlier = fit(source, target, **kept)
        if matrix is None or not _is_sound(matrix):
            continue
        count = len(np.unique(places[inlier.ravel() > 0]))
        if count >= 3 and (best is None or count >= best[1] + margin):
            best = matrix, count
    return best


def _is_sound(matrix: np.ndarray) -> bool:
    large, small = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return np.linalg.det(matrix[:, :2]) > 0 and large < 8 and small > 1 / 8 and large < 2.5 * small


def _local_ncc(x: np.ndarray, y: np.ndarray, mask: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    "Correlation of the `side` x `side` surroundings of each pixel, and where there is something to correlate."

    def mean(z: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(z, -1, (side, side))

    w = mask.astype(np.float32)
    x, y = x * w, y * w
    share = 1 / np.maximum(mean(w), 1e-3)
    mx, my = mean(x) * share, mean(y) * share
    vx = np.maximum(mean(x * x) * share - mx * mx, 0)
    vy = np.maximum(mean(y * y) * share - my * my, 0)
    cov = mean(x * y) * share - mx * my
    return cov / (np.sqrt(vx * vy) + 4), np.maximum(vx, vy) > 40


def _ncc(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    length = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / length if length > 9.0 * len(x) else 0.0  # plain: a deviation of less than 3


def _fit(rgb: np.ndarray, side: int) -> np.ndarray:
    h, w = rgb.shape[:2]
    scale = side / max(h, w)
    if scale == 1:
        return rgb
    # Even sides, so that halves are whole.
    to = tuple(max(8, 2 * round(n * scale / 2)) for n in (w, h))
    return cv2.resize(rgb, to, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _unit(thumb: np.ndarray) -> np.ndarray:
    z = thumb - thumb.mean()
    length = float(np.linalg.norm(z))
    return z / length if length > 3 * THUMB else np.zeros_like(z)


def _wh(grey: np.ndarray) -> np.ndarray:
    return np.array(grey.shape[1::-1], dtype=np.float64)
