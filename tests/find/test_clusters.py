import matplotlib
import numpy as np
import pytest
from brute import check_pairs, components, cosines, lower
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from imgclean.find.clusters import (
    KMeans,
    cluster_pairs,
    cluster_pairs_between,
    find_pairs,
    plot_clusters,
    split_duplicates,
)
from imgclean.find.pairs import Pairs
from imgclean.find.similarity import similar_pairs, similar_pairs_between

matplotlib.use("Agg")


def relu_vectors(n=400, d=32, seed=0, copies=40):
    rng = np.random.default_rng(seed)
    centres = rng.normal(0.3, 1, (10, d))
    x = np.maximum(centres[rng.integers(0, 10, n)] + 0.8 * rng.normal(size=(n, d)) + 0.3, 0)
    if copies:
        x[-copies:] = x[:copies] + 0.05 * rng.normal(size=(copies, d))
    return x.astype(np.float32)


def keys(pairs):
    return set(zip(pairs.i.tolist(), pairs.j.tolist(), strict=True))


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 8), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_the_pairs_are_those_that_share_a_cluster(seed, n, n_clusters, n_assign):
    x = relu_vectors(n, 6, seed, n // 4)
    alive = np.count_nonzero(x.any(1))  # a ReLU may leave nothing of a short row
    assume(alive > 1)
    n_clusters = min(alive, n_clusters)
    model = KMeans(n_clusters, seed=1).fit(x)
    near = model.nearest(x, min(n_assign, n_clusters))[0]
    shared = (near[:, None, :, None] == near[None, :, None, :]).any((2, 3))
    found = cluster_pairs(
        x, min_similarity=0.9, n_clusters=n_clusters, n_assign=n_assign, seed=1, max_pairs=10**6
    )
    check_pairs(found, np.where(shared, lower(cosines(x)), -1), 0.9)


def test_with_one_cluster_or_all_assigned_it_is_exact_search():
    x = relu_vectors()
    exact = similar_pairs(x, min_similarity=0.85)
    for args in ({"n_clusters": 1}, {"n_clusters": 6, "n_assign": 6}, {"n_clusters": 6, "n_assign": 50}):
        found = cluster_pairs(x, min_similarity=0.85, **args)
        assert keys(found) == keys(exact) and len(found) > 40


def test_several_clusters_a_row_find_what_one_loses_at_the_borders():
    x = relu_vectors(1500, copies=300)
    true = keys(similar_pairs(x, min_similarity=0.9))
    recall = [
        len(keys(cluster_pairs(x, min_similarity=0.9, n_clusters=40, n_assign=m)) & true) / len(true)
        for m in (1, 2, 3)
    ]
    default = cluster_pairs(x, min_similarity=0.9, n_clusters=40)
    assert len(keys(default) & true) / len(true) == recall[2]
    assert recall[0] < recall[1] < recall[2] and recall[0] < 0.93 and recall[2] > 0.97


def test_a_file_gives_what_memory_gives_and_twice_the_same(tmp_path):
    x = relu_vectors().astype(np.float16)
    there = np.memmap(tmp_path / "x", np.float16, "w+", shape=x.shape)
    there[:] = x
    found = [cluster_pairs(e, min_similarity=0.9) for e in (x, there, there)]
    assert list(found[0]) == list(found[1]) == list(found[2])
    assert keys(cluster_pairs(x, min_similarity=0.9, kmeans=KMeans(seed=0).fit(x))) == keys(found[0])


def test_thousands_of_copies_are_one_group():
    x = np.repeat(relu_vectors(3, 16, copies=0), [6000, 300, 1], axis=0)
    pairs = cluster_pairs(x, min_similarity=0.99, n_clusters=3)
    assert len(pairs) < 12 * len(x) and pairs.left_out > 6000 * 5999 // 2 - 12 * len(x)
    label = components(len(x), pairs.i, pairs.j)
    assert sorted(np.unique(label, return_counts=True)[1].tolist()) == [1, 300, 6000]


def test_few_pairs_kept_still_hold_the_groups_together():
    "A chain: each vector is close to the next alone, over all clusters."
    angles = np.cumsum(np.linspace(0.01, 0.2, 60))
    x = np.stack([np.cos(angles), np.sin(angles)], 1)
    few, every = (cluster_pairs(x, min_similarity=0.97, max_pairs=m, n_clusters=5) for m in (3, 10_000))
    assert len(few) < len(every) and few.left_out >= len(every) - len(few)
    np.testing.assert_array_equal(components(60, few.i, few.j), components(60, every.i, every.j))


def test_rows_of_zeros_and_few_rows():
    x = relu_vectors(30, copies=10)
    x[[2, 25]] = 0
    found = cluster_pairs(x, min_similarity=-1, n_clusters=1, max_pairs=10**4)
    assert len(found) == 28 * 27 // 2 and not {2, 25} & set(np.concatenate([found.i, found.j]).tolist())
    for few in (x[:0], x[:1], x[[2, 25]], x[[0, 2]]):
        assert len(cluster_pairs(few, min_similarity=0.5)) == 0
    assert len(cluster_pairs(x[[0, 0]], min_similarity=0.5)) == 1


def test_new_images_against_old_equal_exact_search_where_all_clusters_are_looked_at():
    x = relu_vectors()
    old, new = x[:300], x[300:]
    model = KMeans(8).fit(old)
    exact = similar_pairs_between(old, new, min_similarity=0.9)
    found = cluster_pairs_between(old, new, model, min_similarity=0.9, n_assign=8)
    assert list(keys(found)) and keys(found) == keys(exact)
    some = cluster_pairs_between(old, new, model, min_similarity=0.9, n_assign=2)
    assert keys(some) <= keys(exact) and len(some) > 0.8 * len(exact)
    assert len(cluster_pairs_between(old, new[:0], model, min_similarity=0.9)) == 0


def test_what_searches_is_chosen_and_said():
    x = relu_vectors()
    exact, choice = find_pairs(x, min_similarity=0.9)
    assert list(exact) == list(similar_pairs(x, min_similarity=0.9)) and (
        choice.method,
        choice.expected_recall,
    ) == ("exact", 1)
    assert "400 rows" in choice.reason
    for args in ({"memory": 1}, {"method": "clusters"}):
        found, choice = find_pairs(x, min_similarity=0.9, max_pairs=3, **args)
        assert choice.method == "clusters" and 0.9 < choice.expected_recall < 1
        assert list(found) == list(cluster_pairs(x, min_similarity=0.9, max_pairs=3))
    assert find_pairs(x, min_similarity=0.9, method="exact", memory=1)[1].method == "exact"
    with pytest.raises(ValueError, match="method is 'lsh'"):
        find_pairs(x, min_similarity=0.9, method="lsh")
    with pytest.raises(ValueError, match="one row an image"):
        find_pairs(x[0], min_similarity=0.9)


def test_the_split_keeps_one_of_each_group():
    split = split_duplicates(7, Pairs.of([3, 5, 5, 6], [1, 3, 1, 2], [1, 0.9, 0.8, 0.9]))
    assert split.unique.tolist() == [0, 1, 2, 4] and split.duplicates.tolist() == [3, 5, 6]
    assert split_duplicates(2, Pairs.of([], [], [])).unique.tolist() == [0, 1]
    with pytest.raises(ValueError, match="name item 9, and there are 3 items"):
        split_duplicates(3, Pairs.of([9], [1], [1]))


def test_the_picture_shows_rows_centroids_duplicates_and_new_ones(tmp_path):
    x = relu_vectors()
    x[5] = 0
    model = KMeans(6).fit(x)
    split = split_duplicates(len(x), cluster_pairs(x, min_similarity=0.9, n_clusters=6))
    ax = plot_clusters(x, model, duplicates=split.duplicates, new=relu_vectors(9, seed=4, copies=0))
    drawn = [len(c.get_offsets()) for c in ax.collections]
    assert drawn == [399, len(split.duplicates), 9, 6]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "399 of 400 images", f"{len(split.duplicates)} duplicates", "9 new images", "6 centroids",
    ]  # fmt: skip
    ax.figure.savefig(tmp_path / "clusters.png")
    matplotlib.pyplot.close(ax.figure)
    with pytest.raises(ValueError, match="a picture needs two"):
        plot_clusters(x[:1], model)


def test_wrong_input_is_refused():
    x = relu_vectors(20, copies=0)
    model = KMeans(3).fit(x)
    for work, message in (
        (lambda: cluster_pairs(x, min_similarity=1.5), "between -1 and 1"),
        (lambda: cluster_pairs(x, min_similarity=0.9, n_assign=0), "at least one cluster"),
        (lambda: cluster_pairs(x, min_similarity=0.9, max_pairs=0), "at least one pair"),
        (lambda: cluster_pairs(x, min_similarity=0.9, n_clusters=21), "ask for fewer"),
        (
            lambda: cluster_pairs(np.where(x == x[0, 0], np.nan, x), min_similarity=0.9),
            "embedding 0 holds NaN",
        ),
        (
            lambda: cluster_pairs(x[:, :5], min_similarity=0.9, kmeans=model),
            "5 numbers a row, the centroids 32",
        ),
        (lambda: cluster_pairs(x, min_similarity=0.9, kmeans=KMeans(2)), "no centroids yet"),
        (lambda: cluster_pairs_between(x, x[:, :5], model, min_similarity=0.9), "same model and layer"),
    ):
        with pytest.raises(ValueError, match=message):
            work()
