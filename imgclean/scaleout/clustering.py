"""Clusters of rows on many machines: centroids of a seeded, sorted sample, and the nearest few of each row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from ..find.clusters import N_ASSIGN
from ..find.kmeans import SAMPLE, KMeans, default_clusters
from .tables import Numbering, begin, column_of, finish, matrix, write_table
from .tasks import TASK_BYTES, parts_dataset, parts_in, take_rows

CENTROIDS = "centroids.json"


@dataclass(frozen=True)
class Clusters:
    "Which rows are in which cluster, and which clusters are too large for one task"

    folder: Path  # a file `part-*.parquet` for each file of embeddings, with the columns row and clusters
    sizes: np.ndarray  # (k,) int64, rows of each cluster
    max_cluster_size: int  # rows that a task compares at most

    @property
    def blocks(self) -> np.ndarray:  # (k,) int64
        "In how many blocks each cluster is compared: 1 for most; any two blocks of a larger one fit into a task."
        large = self.sizes > self.max_cluster_size
        return np.where(large, -(-self.sizes // max(1, self.max_cluster_size // 2)), 1)


def cluster(
    numbering: Numbering,  # of the folder of embeddings
    out: Path,  # gets the folder `clusters`
    *,
    n_clusters: int | None = None,  # default: √n
    n_assign: int = N_ASSIGN,  # nearest centroids that a row goes to
    seed: int = 0,
    sample: int | None = None,  # rows that the centroids are learnt from; default: 64 for each
    max_cluster_size: int | None = None,  # rows; default: as many as have 512 MB of vectors
) -> Clusters:
    """The clusters of all rows, which do not depend on the order in which workers end.

    What is in `out` already is not done again. Raises `ValueError` for fewer rows than clusters.
    """
    size = max_cluster_size or default_size(numbering.d)
    k = min(n_clusters or default_clusters(len(numbering)), len(numbering))
    _check(n_assign, size)
    settings = {
        "rows": numbering.fingerprint, "n_clusters": k, "n_assign": n_assign, "seed": seed, "sample": sample
    }  # fmt: skip
    folder = out / "clusters"
    done = begin(folder, settings)
    if done is None:
        start = perf_counter()
        kmeans = _centroids(numbering, folder, k, seed, sample)
        _assign(numbering, folder, kmeans, n_assign)
        said = {"seconds": perf_counter() - start, "sizes": _sizes(folder, len(kmeans.centroids)).tolist()}
        done = finish(folder, said)
    return Clusters(folder, np.array(done["sizes"], dtype=np.int64), size)


def default_size(d: int) -> int:
    "Rows of `d` float32 that a task compares at most."
    return max(2, TASK_BYTES // (4 * d))


def _check(n_assign: int, size: int) -> None:
    if n_assign < 1:
        raise ValueError(f"n_assign is {n_assign}; a row goes to at least one cluster")
    if size < 2:
        raise ValueError(f"max_cluster_size is {size}; a task compares at least two rows")


def _centroids(numbering: Numbering, folder: Path, k: int, seed: int, sample: int | None) -> KMeans:
    if (folder / CENTROIDS).exists():
        return KMeans.load(folder / CENTROIDS)
    n = max(k, min(sample or SAMPLE * k, len(numbering)))
    rows = np.sort(np.random.default_rng(seed).choice(len(numbering), n, replace=False))
    with threadpool_limits(1):  # several threads add up in an order of their own
        kmeans = KMeans(k, seed=seed).fit(take_rows(numbering, rows))
    kmeans.save(folder / CENTROIDS)
    return kmeans


def _assign(numbering: Numbering, folder: Path, kmeans: KMeans, n_assign: int) -> None:
    n_assign = min(n_assign, len(kmeans.centroids))
    todo = [(file, n) for file, n in numbering.parts if not (folder / Path(file).name).exists()]
    if todo:
        assign = partial(_assign_part, folder=folder, kmeans=kmeans, n_assign=n_assign)
        parts_dataset(todo).map_batches(assign, batch_format="pyarrow", batch_size=None).materialize()


def _assign_part(block: pa.Table, folder: Path, kmeans: KMeans, n_assign: int) -> pa.Table:
    "Writes the clusters of the rows of each file, sorted in each row, -1 for rows of zeros."
    for file, numbers in parts_in(block):
        vectors = matrix(pq.read_table(file, columns=["vector"])["vector"])
        clusters = np.sort(kmeans.nearest(vectors, n_assign)[0], axis=1).astype(np.int32)
        write_table(pa.table({"row": numbers, "clusters": column_of(clusters)}), folder / Path(file).name)
    return block.select(["part"])


def _sizes(folder: Path, k: int) -> np.ndarray:  # (k,)
    sizes = np.zeros(k, dtype=np.int64)
    for file in folder.glob("part-*.parquet"):
        clusters = matrix(pq.read_table(file, columns=["clusters"])["clusters"])
        sizes += np.bincount(clusters[clusters >= 0], minlength=k)
    return sizes
