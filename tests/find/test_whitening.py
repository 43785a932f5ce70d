import numpy as np
import pytest

from imgclean.find.whitening import MAX_DIMS, MIN_DIMS, ROWS_A_DIM, SAMPLE, Whitening


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
