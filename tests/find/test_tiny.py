import cv2
import numpy as np
import pytest
from PIL import Image

from imgclean.find.align import view_of
from imgclean.find.tiny import NOTHING, SIDE, _local, agreement, probability


def tiny(seed: int) -> np.ndarray:  # (32, 32, 3) uint8
    "Blurred noise: structure of several sizes."
    noise = np.random.default_rng(seed).normal(size=(SIDE, SIDE, 3)).astype(np.float32)
    z = sum(s * cv2.GaussianBlur(noise, (0, 0), s) for s in (1, 2, 4))
    return np.clip(128 + 60 * z / z.std(), 0, 255).astype(np.uint8)


def seen(z: np.ndarray):
    return view_of(Image.fromarray(z), z.shape[1::-1])


def test_pictures_without_contrast_agree_with_nothing():
    plain, other = (seen(np.full((32, 32, 3), c, np.uint8)) for c in (255, 128))
    assert agreement(plain, other) == NOTHING


def test_shift_scale_mirror_and_contrast_are_forgiven():
    a = tiny(1)
    large = cv2.resize(a, (35, 35), interpolation=cv2.INTER_AREA)[1:33, 2:34]
    for b, mirrored in (
        (np.roll(a, (3, -2), (0, 1)), False),
        (a[:, ::-1].copy(), True),
        (large, False),
        ((a * 0.5 + 20).astype(np.uint8), False),
    ):
        found = agreement(seen(a), seen(b))
        assert found.mirrored == mirrored and found.ncc > 0.95 and found.local > 0.85
        assert probability(found, 0.85) > 0.9
    for seed in range(2, 12):
        found = agreement(seen(a), seen(tiny(seed)))
        assert found.local < 0.5 and probability(found, 0.7) < 0.05


def test_local_agreement_is_a_weighted_mean_of_correlations():
    g, h = (cv2.cvtColor(tiny(k), cv2.COLOR_RGB2GRAY).astype(np.float32) for k in (1, 2))
    h = 0.5 * g + 0.5 * h
    gp, hp = (np.pad(z, 2, mode="reflect").astype(np.float64) for z in (g, h))
    total = weights = 0.0
    for y in range(SIDE):
        for x in range(SIDE):
            p, q = gp[y : y + 5, x : x + 5], hp[y : y + 5, x : x + 5]
            weight = max(p.std(), q.std())
            total += weight * ((p - p.mean()) * (q - q.mean())).mean() / (p.std() * q.std() + 4)
            weights += weight
    assert _local(g, h) == pytest.approx(total / (weights + 1), abs=1e-3)


def test_probability_rises_with_both_kinds_of_evidence():
    found = agreement(seen(tiny(1)), seen(tiny(1)))
    assert probability(found, 0.9) > probability(found, 0.8) > probability(found._replace(local=0.5), 0.8)
