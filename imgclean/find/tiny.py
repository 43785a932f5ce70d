"""The second look at images too small for keypoints: how well their pixels agree. Arrays only."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from .align import View

TINY = 64  # longer side up to which there is nothing for keypoints to hold on to
SIDE = 32  # pixels in which they are compared
SHIFT = 3
SIDES = (32, 29, 35)  # of the second picture: scales of about .9 to 1.1
FLAT = 4.0  # grey levels of deviation below which a picture is plain


class Agreement(NamedTuple):
    "How well two tiny pictures agree where one lies best on the other"

    ncc: float  # normalised cross-correlation of their colours
    local: float  # correlation of the surroundings of each pixel, the mean weighted by texture
    mirrored: bool


NOTHING = Agreement(0.0, 0.0, False)


def tiny_verdict(a: View, b: View, cosine: float) -> tuple[float, str, str, None, bool]:
    "What `verify.Check` holds: the probability, the grade, what was done, no transform, whether mirrored."
    found = agreement(a, b)
    p = probability(found, cosine)
    if p < 0.5:
        return p, "same scene" if found.ncc > 0.85 else "similar", "", None, False
    words = ["mirrored"] if found.mirrored else []
    if a.size != b.size:
        words.append("resized")
    plain = not found.mirrored and found.ncc > 0.97
    return p, "re-encoded" if plain else "edited", ", ".join(words), None, found.mirrored


def probability(found: Agreement, cosine: float) -> float:
    "That two tiny pictures are one."
    return float(1 / (1 + np.exp(-(WEIGHTS @ [cosine, found.local] + BIAS))))


# Logistic regression (scikit-learn, C=10), 2026-11-21, on judged pairs of CIFAR-10 whose test images are in one half, each with two
# cosines: that of `embed` as it comes, and that of an earlier layer; data and what came of it on the other half: docs/cifar10.md.
WEIGHTS = np.array([18.1, 12.6])
BIAS = -23.5


def agreement(a: View, b: View) -> Agreement:
    "How well `b` and its mirror agree with `a` where the colours correlate best, over shifts and scales."
    x, y = (cv2.resize(v.rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) for v in (a, b))
    if min(x.std(axis=(0, 1)).max(), y.std(axis=(0, 1)).max()) < FLAT:
        return NOTHING
    ncc, mirrored, under, part = max(_laid(x, y), key=lambda guess: guess[0])
    g, h = (cv2.cvtColor(z, cv2.COLOR_RGB2GRAY) for z in (under, part))
    return Agreement(ncc, _local(g, h), mirrored)


def _laid(x: np.ndarray, y: np.ndarray) -> list[tuple[float, bool, np.ndarray, np.ndarray]]:
    "For each scale, and for the mirror: the best correlation, and the parts that lie on each other there."
    guesses = []
    for side in SIDES:
        z = y if side == SIDE else cv2.resize(y, (side, side), interpolation=cv2.INTER_AREA)
        edge = (side - SIDE + 2 * SHIFT) // 2
        part = z[edge : side - edge, edge : side - edge]
        n = len(part)
        for mirrored in (False, True):
            template = np.ascontiguousarray(part[:, ::-1]) if mirrored else part
            match = cv2.matchTemplate(x, template, cv2.TM_CCOEFF_NORMED)
            _, best, _, (left, top) = cv2.minMaxLoc(match)
            guesses.append((float(best), mirrored, x[top : top + n, left : left + n], template))
    return guesses


def _local(g: np.ndarray, h: np.ndarray) -> float:
    "Mean correlation of 5 x 5 surroundings in two grey pictures; textured places count more."

    def mean(z: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(z, -1, (5, 5))

    mg, mh = mean(g), mean(h)
    vg, vh = np.maximum(mean(g * g) - mg * mg, 0), np.maximum(mean(h * h) - mh * mh, 0)
    ncc = (mean(g * h) - mg * mh) / (np.sqrt(vg * vh) + 4)
    weight = np.sqrt(np.maximum(vg, vh))
    return float((ncc * weight).sum() / (weight.sum() + 1))
