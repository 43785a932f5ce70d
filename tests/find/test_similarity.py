from unittest.mock import patch

import brute
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imgclean.find import filters
from imgclean.find.groups import group_pairs
from imgclean.find.linkage import connected
from imgclean.find.similarity import (
    comb_similarity,
    nearest,
    normalise,
    plot_similarity,
    similar_pairs,
    similar_pairs_between,
)

MODES = st.sampled_from(["auto", *filters.FILTERS])
BLOCKS = st.sampled_from([5, 32, 1024])
LEAST = st.sampled_from([-1.0, -0.3, 0.0, 0.5, 0.9, 0.999, 1.0])


def narrow():
    "So few columns that the residual has to carry what the projection loses."
    return patch.object(filters, "WIDTHS", (4,))


def vectors(n, d, seed=0, copies=0):
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.normal(0.2, 1, (n, d)), 0)
    for k in range(copies):
        x[-1 - k] = x[k] * rng.uniform(0.5, 2) + rng.normal(0, 0.01, d)
    return x


def brute_force(x, keep):
    "Every pair, one at a time, as the article did it."
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-8)
    triples = [(i, j, float(x[i] @ x[j])) for i in range(len(x)) for j in range(i)]
    return sorted((t for t in triples if keep(t[2])), key=lambda t: (-t[2], t[0], t[1]))


def same(pairs, triples):
    assert {(i, j) for i, j, _ in pairs} == {(i, j) for i, j, _ in triples}
    np.testing.assert_allclose(pairs.score, [s for *_, s in triples], atol=2e-6)


@pytest.mark.parametrize("block", [7, 32, 1024])
@pytest.mark.parametrize("n", [2, 31, 100])
def test_all_pairs_above_a_threshold_equal_brute_force(n, block):
    x = vectors(n, 24, seed=n, copies=n // 10)
    pairs = similar_pairs(x, min_similarity=0.55, block=block)
    same(pairs, brute_force(x, lambda s: s >= 0.55))
    assert pairs.left_out == 0


@pytest.mark.parametrize("block", [9, 1024])
def test_the_best_n_pairs_equal_brute_force(block):
    x = vectors(80, 24, copies=8)
    same(similar_pairs(x, n=50, block=block), brute_force(x, lambda s: True)[:50])
    same(similar_pairs(x, n=50, min_similarity=0.9, block=block), brute_force(x, lambda s: s >= 0.9)[:50])
    assert len(similar_pairs(x, n=10**6, block=block)) == 80 * 79 // 2


def test_block_size_does_not_change_the_answer():
    x = vectors(60, 16, copies=6)
    answers = [list(similar_pairs(x, min_similarity=0.5, block=b)) for b in (5, 60)]
    assert [p[:2] for p in answers[0]] == [p[:2] for p in answers[1]]


def test_identical_images_give_one_group_not_n_squared_pairs():
    x = np.repeat(vectors(2, 32), 600, axis=0)
    pairs = similar_pairs(x, min_similarity=0.99, max_pairs=1000, block=128)
    all_pairs = 2 * 600 * 599 // 2
    assert 1000 <= len(pairs) <= 1000 + 2 * 599 and pairs.left_out == all_pairs - len(pairs)
    groups = group_pairs(pairs, lambda k: {"width": 1, "height": 1, "bytes": 1})
    assert sorted(len(g) for g in groups) == [600, 600]


def test_left_out_pairs_never_split_a_group():
    "A chain: each vector is close to the next alone, and the best pairs lie at one end."
    angles = np.cumsum(np.linspace(0.01, 0.2, 40))
    x = np.stack([np.cos(angles), np.sin(angles)], 1)
    few, every = (similar_pairs(x, min_similarity=0.97, max_pairs=m, block=8) for m in (3, 10_000))
    assert len(few) < len(every) and few.left_out == len(every) - len(few)

    def groups(pairs):
        return [set(g) for g in connected(pairs)]

    assert groups(few) == groups(every) == [set(range(40))]


def test_input_is_not_changed():
    x = vectors(10, 4).astype(np.float32)
    before = x.copy()
    similar_pairs(x, n=3)
    np.testing.assert_array_equal(x, before)


def test_zero_vectors_resemble_nothing():
    x = vectors(6, 8)
    x[[1, 4]] = 0
    assert not {1, 4} & {k for i, j, _ in similar_pairs(x, min_similarity=0.01) for k in (i, j)}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"min_similarity": 1.5}, "between -1 and 1"),
        ({"min_similarity": -1.01}, "between -1 and 1"),
        ({"n": 0}, "at least one pair"),
        ({"max_pairs": 0}, "at least one pair"),
        ({"metric": "manhattan"}, "'cosine' or 'euclidean'"),
        ({"max_distance": 0.5}, "goes with metric='euclidean'"),
        ({"max_distance": 0.5, "metric": "euclidean", "min_similarity": 0.9}, "without min_similarity"),
        ({"max_distance": 3, "metric": "euclidean"}, "between 0 and 2"),
        ({"prefilter": "int4"}, "'auto' or one of"),
    ],
)
def test_wrong_arguments_are_refused(args, message):
    with pytest.raises(ValueError, match=message):
        similar_pairs(vectors(4, 4), **args)


def test_wrong_vectors_are_refused():
    x = vectors(4, 4)
    x[2, 1] = np.nan
    with pytest.raises(ValueError, match="embedding 2 holds NaN"):
        similar_pairs(x, n=1)
    with pytest.raises(ValueError, match="one row an image"):
        similar_pairs(np.zeros(5), n=1)


def test_one_finds_copies_in_spite_of_rounding():
    x = np.repeat(vectors(4, 1280), 3, axis=0)
    pairs = similar_pairs(x, min_similarity=1)
    assert len(pairs) == 4 * 3 and (pairs.score == 1).all()


@settings(deadline=None, max_examples=80)
@given(x=brute.vectors(), least=LEAST, mode=MODES, block=BLOCKS)
def test_every_filter_and_tile_gives_what_brute_force_gives(x, least, mode, block):
    with narrow():
        pairs = similar_pairs(x, min_similarity=least, max_pairs=10**6, prefilter=mode, block=block)
    brute.check_pairs(pairs, brute.lower(brute.cosines(x)), least)
    assert pairs.left_out == 0


@settings(deadline=None, max_examples=60)
@given(x=brute.vectors(), n=st.integers(1, 200), mode=MODES, block=BLOCKS)
def test_the_best_n_are_the_best_with_every_filter(x, n, mode, block):
    with narrow():
        pairs = similar_pairs(x, n=n, prefilter=mode, block=block)
    sims = brute.lower(brute.cosines(x))
    best = np.sort(sims[np.isfinite(sims)])[::-1][:n]
    np.testing.assert_allclose(pairs.score, best, atol=brute.SURE)
    np.testing.assert_allclose(pairs.score, sims[pairs.i, pairs.j], atol=brute.SURE)
    assert len(set(zip(pairs.i, pairs.j, strict=True))) == len(best)


@settings(deadline=None, max_examples=60)
@given(a=brute.vectors(d=9), b=brute.vectors(d=9), least=LEAST, mode=MODES, block=BLOCKS)
def test_pairs_of_two_sets_equal_brute_force(a, b, least, mode, block):
    with narrow():
        pairs = similar_pairs_between(
            a, b, min_similarity=least, max_pairs=10**6, prefilter=mode, block=block
        )
    together = np.full((len(a) + len(b), len(a) + len(b)), -np.inf)
    together[len(a) :, : len(a)] = brute.cosines(b, a)
    brute.check_pairs(pairs, together, least)


@settings(deadline=None, max_examples=80)
@given(x=brute.vectors(), others=st.none() | brute.vectors(), k=st.integers(1, 12), mode=MODES, block=BLOCKS)
def test_the_nearest_equal_brute_force(x, others, k, mode, block):
    if others is not None:
        others = np.resize(others, (len(others), x.shape[1]))
    with narrow():
        index, score = nearest(x, k, others=others, prefilter=mode, block=block)
    sims = brute.cosines(x, others)
    if others is None:
        np.fill_diagonal(sims, -np.inf)
    best = np.full((len(x), k), -np.inf)
    best[:, : sims.shape[1]] = np.sort(sims, axis=1)[:, ::-1][:, :k]
    assert index.shape == score.shape == (len(x), k)
    np.testing.assert_allclose(score, best, atol=brute.SURE)
    found = index >= 0
    np.testing.assert_array_equal(found, np.isfinite(best))
    np.testing.assert_allclose(score[found], sims[np.nonzero(found)[0], index[found]], atol=brute.SURE)
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in index)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("mode", ["none", "pca"])
def test_a_file_gives_the_same_as_memory_and_is_never_read_whole(tmp_path, dtype, mode):
    x = vectors(500, 64, copies=50).astype(dtype)
    file = np.memmap(tmp_path / "emb", dtype=dtype, mode="w+", shape=x.shape)
    file[:] = x
    file.flush()
    most = 0

    class Watched(np.memmap):
        def __getitem__(self, key):
            nonlocal most
            part = np.asarray(super().__getitem__(key))
            most = max(most, len(part))
            return part

    watched = Watched(tmp_path / "emb", dtype=dtype, mode="r", shape=x.shape)
    with patch("imgclean.find.tiles.READ", 2048), patch.multiple(filters, SAMPLE=64, LEAST_SAMPLE=64):
        from_file = similar_pairs(watched, min_similarity=0.8, block=32, prefilter=mode)
    assert list(from_file) == list(similar_pairs(x, min_similarity=0.8, block=32, prefilter=mode))
    assert len(from_file) >= 50 and most <= 64


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_rows_or_none(n):
    x = vectors(n, 8)
    assert len(similar_pairs(x, min_similarity=-1)) == len(similar_pairs(x, n=5)) == n * (n - 1) // 2
    assert len(similar_pairs_between(x, vectors(3, 8), min_similarity=-1)) == 3 * n
    index, _ = nearest(x, 2)
    assert index.tolist() == [[], [[-1, -1]], [[1, -1], [0, -1]]][n]


def test_zero_vectors_resemble_nothing_however_low_the_threshold():
    x = vectors(6, 8)
    x[[1, 4]] = 0
    assert {k for i, j, _ in similar_pairs(x, min_similarity=-1) for k in (i, j)} == {0, 2, 3, 5}
    between = similar_pairs_between(x, x, min_similarity=-1)
    assert {(i - 6, j) for i, j, _ in between} == {(i, j) for i in (0, 2, 3, 5) for j in (0, 2, 3, 5)}
    assert len(similar_pairs(np.zeros((3, 4)), min_similarity=-1)) == 0


def test_sets_of_different_width_are_refused():
    for search in (similar_pairs_between, lambda a, b: nearest(a, others=b), comb_similarity):
        with pytest.raises(ValueError, match=r"[45] and [45] numbers a row"):
            search(vectors(3, 4), vectors(3, 5))
    with pytest.raises(ValueError, match="k is 0"):
        nearest(vectors(3, 4), 0)


def test_the_euclidean_distance_of_normalised_rows():
    x = vectors(40, 12, copies=5)
    pairs = similar_pairs(x, metric="euclidean", max_distance=0.9)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    apart = np.linalg.norm(unit[:, None] - unit, axis=2)
    assert {p[:2] for p in pairs} == {(i, j) for i in range(40) for j in range(i) if apart[i, j] <= 0.9}
    np.testing.assert_allclose(-pairs.score, apart[pairs.i, pairs.j], atol=1e-5)
    assert [p[:2] for p in pairs] == [p[:2] for p in similar_pairs(x, min_similarity=1 - 0.9**2 / 2)]


def test_normalise_leaves_zeros_and_the_input_alone():
    x = np.array([[3, 4], [0, 0]], dtype=np.float16)
    np.testing.assert_allclose(normalise(x), [[0.6, 0.8], [0, 0]], atol=1e-6)
    assert x[0, 0] == 3


def test_comb_similarity_is_the_lower_triangle_of_one_set_and_all_of_two():
    a, b = vectors(9, 24), vectors(4, 24, seed=1)
    expected = np.where(np.tri(9, k=-1, dtype=bool), brute.cosines(a), 0)
    np.testing.assert_allclose(comb_similarity(a, a), expected, atol=1e-6)
    np.testing.assert_allclose(comb_similarity(torch.from_numpy(a), a), np.tril(expected), atol=1e-6)
    np.testing.assert_allclose(comb_similarity(a, b), brute.cosines(a, b), atol=1e-6)


def test_a_matrix_that_would_not_fit_is_refused():
    many = np.broadcast_to(np.ones((1, 2), dtype=np.float32), (10**6, 2))
    with pytest.raises(ValueError, match="takes 4000 GB"):
        comb_similarity(many, many)


def test_plot_similarity_draws_the_matrix():
    import matplotlib

    matplotlib.use("Agg")
    matrix = comb_similarity(vectors(6, 4), vectors(6, 4))
    ax = plot_similarity(matrix)
    np.testing.assert_array_equal(ax.images[0].get_array(), matrix)
    assert plot_similarity(matrix, ax) is ax
    matplotlib.pyplot.close("all")
