"""Pairs by way of clusters: rows are compared with those that share one of their nearest centroids."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .best import Best
from .choose import CLUSTERS_RECALL, Choice, choose_method, exact_memory
from .join import progress_bar
from .kmeans import KMeans
from .linkage import stars
from .pairs import Pairs, check_similarity
from .similarity import MAX_PAIRS, similar_pairs, similar_pairs_between
from .tiles import Rows, same_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "KMeans",
    "Split",
    "cluster_pairs",
    "cluster_pairs_between",
    "find_pairs",
    "plot_clusters",
    "split_duplicates",
]

N_ASSIGN = 3  # clusters of a row; one alone loses the pairs that lie on both sides of a border
RECALL = {"exact": 1.0, "clusters": CLUSTERS_RECALL}
PLOTTED = 5000  # rows in a picture


def cluster_pairs(
    emb: np.ndarray,  # (n, d) float16 or float32, one row an image; may be an np.memmap larger than memory
    *,
    min_similarity: float,  # pairs with at least this cosine
    n_clusters: int | None = None,  # default: √n
    n_assign: int = N_ASSIGN,  # nearest centroids that a row goes to
    seed: int = 0,
    max_pairs: int | None = None,  # pairs to keep at most, default 10 for each image
    kmeans: KMeans | None = None,  # centroids that are there already, in place of `n_clusters`
    progress: bool = True,  # show how far it is, where it takes more than some seconds
) -> Pairs:
    """Pairs of rows that share a cluster and reach `min_similarity`, each once, best first, exact within a cluster.

    Finds most pairs, not all: how many is measured in docs/indexes.md. Where more than `max_pairs` are found, the
    best are kept with those that hold the groups together, and `left_out` counts the rest, some of them in
    several clusters. Memory beside `emb` is the rows of the largest cluster and the pairs.
    Source: Abbas et al., "SemDeDup", 2023, with several clusters a row in place of one.
    """
    rows = Rows(emb)
    _check(min_similarity, n_assign, max_pairs)
    limit = max_pairs or MAX_PAIRS * max(1, rows.n)
    if len(rows) < 2:
        return Pairs.of([], [], [])
    kmeans = kmeans or KMeans(n_clusters, seed=seed).fit(emb)
    clusters = _clusters(kmeans, rows, n_assign)
    keep, more = Best(rows.n, limit, min_similarity, forest=True), 0
    groups = _members(clusters, len(kmeans.centroids))
    products = rows.d * sum(len(members) ** 2 / 2 for members in groups)
    for c, members in enumerate(progress_bar(progress, products, groups, unit="cluster")):
        if len(members) > 1:
            found = similar_pairs(
                rows.emb[members],
                min_similarity=min_similarity,
                max_pairs=max(max_pairs or 0, MAX_PAIRS * len(members)),
                progress=False,
            )
            i, j = members[found.i], members[found.j]
            first = first_shared(clusters[i], clusters[j]) == c
            keep.add(i[first], j[first], found.score[first])
            more += found.left_out
    return _with_left_out(keep.pairs(), more)


def find_pairs(
    emb: np.ndarray,  # (n, d) float16 or float32; may be an np.memmap
    *,
    min_similarity: float,
    method: str = "auto",  # or "exact", "clusters"
    max_pairs: int | None = None,
    memory: int | None = None,  # bytes that "auto" may count on; default: half of what is free
    progress: bool = True,
) -> tuple[Pairs, Choice]:
    """Pairs by exact search where that can be afforded, else by clusters; and which it was, why, and its expected recall."""
    rows, d = np.shape(emb) if np.ndim(emb) == 2 else (0, 0)  # others are refused by what searches them
    if method == "auto":
        choice = choose_method(rows, d, memory=memory)
    elif method in RECALL:
        choice = Choice(method, RECALL[method], exact_memory(rows, d), f"method={method!r} was asked for")
    else:
        raise ValueError(f"method is {method!r}; give 'auto', 'exact' or 'clusters'")
    search = similar_pairs if choice.method == "exact" else cluster_pairs
    return search(emb, min_similarity=min_similarity, max_pairs=max_pairs, progress=progress), choice


def cluster_pairs_between(
    a: np.ndarray,  # (n, d), such as the images that are there
    b: np.ndarray,  # (m, d), such as new ones
    kmeans: KMeans,
    *,
    min_similarity: float,
    n_assign: int = N_ASSIGN,
    max_pairs: int | None = None,
) -> Pairs:
    """Pairs of a row of `b` and a row of `a` that share a cluster: new images against old, by saved centroids.

    Numbered as by `similar_pairs_between`: `i - len(a)` is the row of `b`, `j` the row of `a`. Otherwise as
    `cluster_pairs`.
    """
    left, right = Rows(b), Rows(a)
    same_width(left, right)
    _check(min_similarity, n_assign, max_pairs)
    total = left.n + right.n
    keep, more = Best(max(1, total), max_pairs or MAX_PAIRS * max(1, total), min_similarity, forest=True), 0
    of_a, of_b = (_clusters(kmeans, rows, n_assign) for rows in (right, left))
    k = len(kmeans.centroids)
    for c, (old, new) in enumerate(zip(_members(of_a, k), _members(of_b, k), strict=True)):
        if len(old) and len(new):
            found = similar_pairs_between(
                right.emb[old],
                left.emb[new],
                min_similarity=min_similarity,
                max_pairs=max(max_pairs or 0, MAX_PAIRS * (len(old) + len(new))),
                progress=False,
            )
            i, j = new[found.i - len(old)], old[found.j]
            first = first_shared(of_b[i], of_a[j]) == c
            keep.add(i[first] + right.n, j[first], found.score[first])
            more += found.left_out
    return _with_left_out(keep.pairs(), more)


class Split(NamedTuple):
    "Which items to keep and which are near duplicates of a kept one"

    unique: np.ndarray  # (u,) int64, sorted
    duplicates: np.ndarray  # (n - u,) int64, sorted


def split_duplicates(n: int, pairs: Pairs) -> Split:
    """The items 0 to `n` - 1 parted: of each group of `pairs` the first is unique, the others are duplicates.

    Which image of a group is worth keeping, `groups_of` tells. Raises `ValueError` for pairs of other items.
    """
    if len(pairs) and int(pairs.i.max()) >= n:
        raise ValueError(
            f"the pairs name item {int(pairs.i.max())}, and there are {n} items; give all of them"
        )
    duplicate = np.zeros(n, dtype=bool)
    for group in stars(pairs):
        duplicate[group[1:]] = True
    return Split(np.flatnonzero(~duplicate), np.flatnonzero(duplicate))


def plot_clusters(
    emb: np.ndarray,  # (n, d)
    kmeans: KMeans,
    *,
    duplicates: np.ndarray | None = None,  # items to mark, such as `split_duplicates(...).duplicates`
    new: np.ndarray | None = None,  # (m, d) other rows to show among them, such as new images
    ax: Axes | None = None,
    seed: int = 0,
) -> Axes:
    """The rows on their two principal axes, coloured by cluster, with the centroids, duplicates and new rows marked.

    Of more than 5,000 rows a seeded sample is drawn, and all that are marked among it. On `ax` or a new figure.
    """
    import matplotlib.pyplot as plt
    from sklearn.decomposition import PCA

    rows = Rows(emb)
    k = np.random.default_rng(seed).choice(len(rows), min(PLOTTED, len(rows)), replace=False)
    x = rows.take(np.sort(k)).numpy()
    if min(x.shape) < 2:
        raise ValueError(f"there are {len(x)} embeddings of {rows.d} numbers; a picture needs two of two")
    cluster = kmeans.predict(x)
    pca = PCA(2, random_state=seed).fit(x)
    ax = ax or plt.subplots(figsize=(7, 6), layout="constrained")[1]
    at = pca.transform(x)
    ax.scatter(*at.T, c=cluster, cmap="tab20", s=12, label=f"{len(x)} of {rows.n} images")
    if duplicates is not None:
        marked = at[np.isin(rows.numbers(np.sort(k)), duplicates)]
        ax.scatter(*marked.T, marker="x", c="black", s=40, label=f"{len(marked)} duplicates")
    if new is not None:
        other = pca.transform(Rows(new).take(slice(None)).numpy())
        ax.scatter(*other.T, marker="^", c="red", s=50, edgecolors="black", label=f"{len(other)} new images")
    centroids = pca.transform(kmeans.centroids)
    ax.scatter(*centroids.T, marker="o", c="white", s=70, edgecolors="black", linewidths=1.5,
               label=f"{len(centroids)} centroids")  # fmt: skip
    share = pca.explained_variance_ratio_
    ax.set(xlabel=f"first axis ({share[0]:.0%} of the variance)", ylabel=f"second axis ({share[1]:.0%})")
    ax.legend(loc="best", fontsize="small")
    return ax


def _clusters(kmeans: KMeans, rows: Rows, n_assign: int) -> np.ndarray:  # (n, n_assign) int32, sorted
    "The clusters of each row; -1 for rows of zeros."
    index = kmeans.nearest_of(rows, min(n_assign, max(1, len(kmeans.centroids))))[0]
    return np.sort(index, axis=1).astype(np.int32)


def _members(clusters: np.ndarray, k: int) -> list[np.ndarray]:  # for each cluster, its rows, sorted
    n_assign = clusters.shape[1]
    order = np.argsort(clusters.ravel(), kind="stable")
    ends = np.searchsorted(clusters.ravel()[order], np.arange(k + 1))
    return [order[ends[c] : ends[c + 1]] // n_assign for c in range(k)]


def first_shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # (m,)
    "The first cluster that is in both rows of clusters: a pair is counted there alone."
    shared = (a[:, :, None] == b[:, None, :]).any(2)
    return np.where(shared, a, np.iinfo(a.dtype).max).min(1, initial=np.iinfo(a.dtype).max)


def _with_left_out(found: Pairs, more: int) -> Pairs:
    return Pairs(found.i, found.j, found.score, found.left_out + more)


def _check(min_similarity: float, n_assign: int, max_pairs: int | None) -> None:
    check_similarity(min_similarity)
    if n_assign < 1:
        raise ValueError(f"n_assign is {n_assign}; a row goes to at least one cluster")
    if max_pairs is not None and max_pairs < 1:
        raise ValueError(f"max_pairs is {max_pairs}; ask for at least one pair")
