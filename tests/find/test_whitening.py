import numpy as np
import pytest

from imgclean.find.pairs import Pairs
from imgclean.find.whitening import MAX_DIMS, MIN_DIMS, ROWS_A_DIM, SAMPLE, Whitening, expected_cosines


def skewed(n, d, seed=0):
    "Post-ReLU-like vectors, most of whose differences lie in a few directions."
    rng = np.random.default_rng(seed)
    few = rng.normal(size=(n, 3)) @ rng.normal(size=(3, d)) * 5
    return np.maximum(few + rng.normal(size=(n, d)), 0).astype(np.float32)


@pytest.mark.parametrize("n, d", [(120, 400), (900, 40)])  # more numbers than rows, and the other way
def test_whitened_vectors_are_centred_uncorrelated_and_of_variance_one(n, d):
    x = skewed(n, d)
    w = Whitening(x)
    y = w(x)
    assert y.shape == (n, w.dims) and w.dims == min(n // ROWS_A_DIM, d, MAX_DIMS) and y.dtype == np.float32
    assert np.allclose(y.mean(axis=0), 0, atol=1e-3)
    assert np.allclose(y.T @ y / n, np.eye(w.dims), atol=2e-2)


def test_it_is_what_a_slow_decomposition_gives():
    x = skewed(200, 60)
    root = np.sqrt(x.astype(np.float64))
    root /= np.linalg.norm(root, axis=1, keepdims=True)
    u, _, _ = np.linalg.svd(root - root.mean(axis=0), full_matrices=False)
    w = Whitening(x)
    slow = u[:, : w.dims] * np.sqrt(200)  # up to the sign of each direction, and their order
    cosines = abs(slow.T @ w(x)) / 200
    assert np.allclose(np.sort(cosines, axis=1)[:, -1], 1, atol=1e-2)


def test_a_sample_of_a_memory_map_is_enough(tmp_path):
    x = skewed(SAMPLE + 900, 24)
    mapped = np.memmap(tmp_path / "x", np.float16, "w+", shape=x.shape)
    mapped[:] = x
    y = Whitening(mapped)(mapped)
    assert np.allclose(y.T @ y / len(y), np.eye(y.shape[1]), atol=0.3)
    assert np.array_equal(y, Whitening(mapped)(mapped))


def test_few_or_equal_images_teach_nothing():
    assert Whitening(skewed(MIN_DIMS * ROWS_A_DIM - 1, 99)).dims == 0
    assert Whitening(skewed(1, 9)).dims == 0
    same = Whitening(np.ones((300, 50), np.float32))
    assert same.dims <= 1 and np.isfinite(same(np.ones((2, 50)))).all()
    signed = Whitening(np.random.default_rng(0).normal(size=(100, 30)))
    assert signed.dims == 16 and np.isfinite(signed(np.zeros((1, 30)))).all()


def test_expected_cosines_are_on_the_line_of_least_squares():
    x = skewed(150, 60)
    i, j = np.tril_indices(len(x), -1)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    pairs = Pairs.of(i, j, (unit @ unit.T)[i, j])
    got = {(i, j): score for i, j, score in expected_cosines(x, pairs)}
    y = Whitening(x)(x).astype(np.float64)
    white = np.array([y[i] @ y[j] / np.linalg.norm(y[i]) / np.linalg.norm(y[j]) for i, j, _ in pairs])
    (slope, shift), *_ = np.linalg.lstsq(
        np.stack([white, np.ones_like(white)], 1), pairs.score.astype(np.float64), rcond=None
    )
    assert slope > 0 and len(got) == len(pairs)
    for (i, j, _), w in zip(pairs, white, strict=True):
        assert got[i, j] == pytest.approx(slope * w + shift, abs=1e-4)


def test_expected_cosines_tell_copies_better_that_moved_in_the_directions_that_all_images_share():
    x, rng = skewed(300, 80), np.random.default_rng(100)
    _, s, v = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    moved = 0.7 * rng.normal(size=(50, 3)) * s[:3] / np.sqrt(300) @ v[:3]
    both = np.concatenate([x, np.maximum(x[:50] + moved, 0).astype(np.float32)])
    i, j = np.meshgrid(np.arange(300, 350), np.arange(300), indexing="ij")
    unit = both / np.linalg.norm(both, axis=1, keepdims=True)
    pairs = Pairs.of(i.ravel(), j.ravel(), (unit @ unit.T)[i, j].ravel())

    def found(ranked):
        return sum(i - 300 == j for i, j, _ in ranked.top(50))

    assert found(expected_cosines(both, pairs)) > 1.5 * found(pairs)


def test_too_few_images_keep_their_cosines():
    pairs = Pairs.of([1, 2], [0, 1], [0.9, 0.3])
    assert expected_cosines(np.eye(9, dtype=np.float32), pairs) is pairs
    assert len(expected_cosines(skewed(100, 50), Pairs.of([], [], []))) == 0
