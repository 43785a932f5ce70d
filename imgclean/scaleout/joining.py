"""Pairs of rows on many machines: within each cluster, or exactly, one task for each pair of blocks of rows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..dataset.stored import read_json
from ..find.best import Best
from ..find.clusters import first_shared
from ..find.pairs import Pairs, check_similarity
from ..find.similarity import MAX_PAIRS, similar_pairs, similar_pairs_between
from ..find.tiles import ROUNDING
from .clustering import Clusters, default_size
from .tables import SETTINGS, Numbering, begin, column_of, finish, matrix, write_table
from .tasks import each, partitions, parts_dataset, parts_in

METHODS = ("clusters", "exact")
CHUNK = 4096  # pairs whose rows are read at a time


class Rows(NamedTuple):
    "Some rows that a task compares, sorted by number"

    number: np.ndarray  # (m,) int64
    vectors: np.ndarray  # (m, d) float32
    clusters: np.ndarray | None  # (m, n_assign) int32, sorted in each row; None: all are compared with all


class Edges(NamedTuple):
    "Pairs that a task found"

    columns: dict[
        str, np.ndarray
    ]  # i, j (m,) int64, smaller, score (m,) float32, and what else the kind of search tells
    left_out: int


@dataclass(frozen=True)
class Alike:
    "All pairs of at least a cosine"

    min_similarity: float
    max_pairs: int = 0  # that a task keeps at least

    def edges(self, a: Rows, b: Rows | None, cluster: int | None) -> Edges:
        "Pairs of rows of `a`, or of `a` and `b`, that share no cluster before `cluster`."
        low = max(-1.0, self.min_similarity - ROUNDING)
        n = len(a.number) + (0 if b is None else len(b.number))
        limit = dict(min_similarity=low, max_pairs=max(self.max_pairs, MAX_PAIRS * n))
        if b is None:
            found, b = similar_pairs(a.vectors, **limit), a
            i, j = found.i, found.j
        else:
            found = similar_pairs_between(a.vectors, b.vectors, **limit)
            i, j = found.j, found.i - len(a.number)
        i, j = counted_once(a, b, i, j, cluster)
        score = exact_cosines(a.vectors, b.vectors, i, j)
        reach = score >= self.min_similarity - ROUNDING
        i, j, score = a.number[i[reach]], b.number[j[reach]], score[reach]
        score = np.clip(score, self.min_similarity, 1).astype(np.float32)
        return Edges({"i": np.maximum(i, j), "j": np.minimum(i, j), "score": score}, found.left_out)


def counted_once(
    a: Rows, b: Rows, i: np.ndarray, j: np.ndarray, cluster: int | None
) -> tuple[np.ndarray, np.ndarray]:
    "The pairs of rows that share no cluster before `cluster`; the others are found there."
    if cluster is None:
        return i, j
    first = first_shared(a.clusters[i], b.clusters[j]) == cluster
    return i[first], j[first]


def exact_cosines(a: np.ndarray, b: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:  # (m,) float64
    "Cosines of rows `i` of `a` and `j` of `b`, the same whatever else a task compared."
    found = np.empty(len(i))
    for start in range(0, len(i), CHUNK):
        some = slice(start, start + CHUNK)
        x, y = a[i[some]].astype(np.float64), b[j[some]].astype(np.float64)
        norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        found[some] = np.einsum("nd,nd->n", x, y) / np.maximum(norms, 1e-60)
    return found


def join_pairs(
    numbering: Numbering,  # of the folder of embeddings
    out: Path,  # gets the folder `join`
    *,
    min_similarity: float,
    method: str = "clusters",  # or "exact": every pair of rows
    clusters: Clusters | None = None,  # of `cluster`, for method="clusters"
    max_pairs: int | None = None,  # pairs to keep at most, default 10 for each image
    max_cluster_size: int | None = None,  # for "exact": rows that a task compares at most
    num_partitions: int | None = None,  # of the shuffle; default: see `partitions`
) -> Pairs:
    """Pairs of row numbers (places among the sorted ids) that reach `min_similarity`, as `similar_pairs` or `cluster_pairs` find them.

    Scores are cosines computed in float64, so that they do not depend on the blocks. What is in `out` already is not
    done again: each task writes a file of its own.
    """
    check_similarity(min_similarity)
    kind = Alike(min_similarity, max_pairs or 0)
    settings = {"min_similarity": min_similarity, "max_pairs": max_pairs}
    folder, done = join(
        numbering, out, kind, settings, method=method, clusters=clusters,
        max_cluster_size=max_cluster_size, num_partitions=num_partitions,
    )  # fmt: skip
    keep = Best(len(numbering), max_pairs or MAX_PAIRS * len(numbering), min_similarity, forest=True)
    for table in edge_tables(folder):
        keep.add(*(table[name].to_numpy() for name in ("i", "j", "score")))
    pairs = keep.pairs()
    return Pairs(pairs.i, pairs.j, pairs.score, pairs.left_out + done["left_out"])


def join(
    numbering: Numbering, out: Path, kind, settings: dict, *, method: str, clusters: Clusters | None,
    max_cluster_size: int | None, num_partitions: int | None,
) -> tuple[Path, dict]:  # fmt: skip
    "The folder with a file of edges of each task, and what the stage says of itself: tasks, pairs, left_out, shuffled_bytes, seconds."
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; give 'clusters' or 'exact'")
    if method == "clusters" and clusters is None:
        raise ValueError("method='clusters' needs the clusters of `cluster`; give them, or method='exact'")
    size = max_cluster_size or default_size(numbering.d)
    if clusters is not None and method == "clusters":
        size = clusters.max_cluster_size
    blocks = None if method == "exact" else clusters.blocks.tolist()
    settings = settings | {
        "rows": numbering.fingerprint, "method": method, "size": size, "blocks": blocks,
        "clusters": blocks and read_json(clusters.folder / SETTINGS),
    }  # fmt: skip
    folder = out / "join"
    done = begin(folder, settings)
    if done is None:
        start = perf_counter()
        (folder / "edges").mkdir(exist_ok=True)
        shuffled = 0
        if method == "exact":
            _exact(numbering, folder, kind, size)
        else:
            shuffled = _by_clusters(numbering, folder, kind, clusters, num_partitions)
        done = finish(
            folder, _summary(folder) | {"shuffled_bytes": shuffled, "seconds": perf_counter() - start}
        )
    return folder, done


def edge_tables(folder: Path) -> Iterator[pa.Table]:
    "The edges of each task, always in one order."
    for file in sorted((folder / "edges").glob("*.parquet")):
        yield pq.read_table(file)


def _summary(folder: Path) -> dict:
    files = list((folder / "edges").glob("*.parquet"))
    about = [pq.read_metadata(file) for file in files]
    left_out = sum(int(m.metadata[b"left_out"]) for m in about)
    return {"tasks": len(files), "pairs": sum(m.num_rows for m in about), "left_out": left_out}


def _write_edges(folder: Path, name: str, found: Edges) -> None:
    table = pa.table(found.columns)
    write_table(
        table.replace_schema_metadata({"left_out": str(found.left_out)}),
        folder / "edges" / f"{name}.parquet",
    )


# Every pair of blocks.


class Slice(NamedTuple):
    "Some rows of a file of embeddings"

    file: str
    number: np.ndarray  # of all rows of the file
    start: int
    stop: int


def _exact(numbering: Numbering, folder: Path, kind, size: int) -> None:
    blocks = _slices(numbering, max(1, size // 2))
    jobs = (
        (f"{p:06}-{q:06}", blocks[p], blocks[q] if q != p else None)
        for p, q in combinations_with_replacement(range(len(blocks)), 2)
    )
    todo = (job for job in jobs if not (folder / "edges" / f"{job[0]}.parquet").exists())
    for _ in each(_join_slices, todo, folder, kind):
        pass


def _slices(numbering: Numbering, size: int) -> list[list[Slice]]:
    "All rows in blocks of at most `size`, in the order of their files."
    blocks, room = [[]], size
    for file, number in numbering.parts:
        start = 0
        while start < len(number):
            stop = min(len(number), start + room)
            blocks[-1].append(Slice(file, number, start, stop))
            room -= stop - start
            start = stop
            if not room:
                blocks.append([])
                room = size
    return [block for block in blocks if block]


def _join_slices(name: str, a: list[Slice], b: list[Slice] | None, folder: Path, kind) -> None:
    _write_edges(folder, name, kind.edges(_read_slices(a), None if b is None else _read_slices(b), None))


def _read_slices(block: list[Slice]) -> Rows:
    number = np.concatenate([s.number[s.start : s.stop] for s in block])
    vectors = np.concatenate([
        matrix(pq.read_table(s.file, columns=["vector"])["vector"].slice(s.start, s.stop - s.start))
        for s in block
    ])  # fmt: skip
    return _sorted(number, vectors, None)


def _sorted(number: np.ndarray, vectors: np.ndarray, clusters: np.ndarray | None) -> Rows:
    order = np.argsort(number)
    return Rows(number[order], vectors[order], None if clusters is None else clusters[order])


# Cluster by cluster.


def _by_clusters(
    numbering: Numbering, folder: Path, kind, clusters: Clusters, num_partitions: int | None
) -> int:
    """Writes the edges of each cluster; bytes of the rows that were sent to the tasks of their clusters.

    A cluster that is too large for a task is sent block by block to files, and compared by a task for each two of them.
    """
    blocks = clusters.blocks
    first = np.concatenate([[0], np.cumsum(blocks)])  # the key of each cluster's first block
    (folder / "blocks").mkdir(exist_ok=True)
    counts = np.repeat(clusters.sizes // blocks, blocks)
    todo = counts > 0
    todo &= [not _place(folder, blocks, c, b).exists() for c, b in _keys(blocks)]
    n_bytes = int(counts[todo].sum()) * 4 * numbering.d
    if todo.any():
        n = num_partitions or partitions(n_bytes, int(todo.sum()))
        send = partial(_send, assigned=clusters.folder, first=first, blocks=blocks, todo=todo)
        work = partial(_join_key, folder=folder, kind=kind, first=first, blocks=blocks)
        files = parts_dataset(numbering.parts)
        sent = files.map_batches(send, batch_format="pyarrow", batch_size=None)
        sent.groupby("key", num_partitions=n).map_groups(work, batch_format="pyarrow").materialize()
    pairs_of_blocks = (
        (int(c), p, q)
        for c in np.flatnonzero(blocks > 1)
        for p, q in combinations_with_replacement(range(blocks[c]), 2)
        if all(_place(folder, blocks, c, block).exists() for block in (p, q))
        and not (folder / "edges" / f"{c:08}-{p:06}-{q:06}.parquet").exists()
    )
    for _ in each(_join_blocks, pairs_of_blocks, folder, kind):
        pass
    shutil.rmtree(folder / "blocks")
    return n_bytes


def _keys(blocks: np.ndarray) -> Iterator[tuple[int, int]]:
    return ((c, b) for c, n in enumerate(blocks.tolist()) for b in range(n))


def _place(folder: Path, blocks: np.ndarray, cluster: int, block: int) -> Path:
    "The file that a task of the shuffle writes: the edges of a cluster, or a block of a large one."
    if blocks[cluster] == 1:
        return folder / "edges" / f"{cluster:08}.parquet"
    return folder / "blocks" / f"{cluster:08}-{block:06}.parquet"


def _send(
    block: pa.Table, assigned: Path, first: np.ndarray, blocks: np.ndarray, todo: np.ndarray
) -> Iterator:
    "The rows of files of embeddings, each once for each of its clusters, with the key of the task that gets it."
    for file, _ in parts_in(block):
        table = pq.read_table(assigned / Path(file).name)
        number, clusters = table["row"].to_numpy(), matrix(table["clusters"])
        table = table.append_column("vector", pq.read_table(file, columns=["vector"])["vector"])
        for own in clusters.T:
            there = np.flatnonzero(own >= 0)  # rows of zeros are in no cluster
            key = first[own[there]] + _scattered(number[there]) % blocks[own[there]]
            there, key = there[todo[key]], key[todo[key]]
            if len(there):
                yield table.take(pa.array(there)).append_column("key", pa.array(key))


def _scattered(number: np.ndarray) -> np.ndarray:  # (m,) int64
    "Numbers in another order, so that what comes in turns, such as every second row, falls into no one block."
    return (number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)).astype(np.int64)


def _join_key(group: pa.Table, folder: Path, kind, first: np.ndarray, blocks: np.ndarray) -> pa.Table:
    "Writes the edges of a cluster, or the block of a large one."
    key = group["key"][0].as_py()
    cluster = int(np.searchsorted(first, key, side="right")) - 1
    rows = _sorted(group["row"].to_numpy(), matrix(group["vector"]), matrix(group["clusters"]))
    if blocks[cluster] == 1:
        _write_edges(folder, f"{cluster:08}", kind.edges(rows, None, cluster))
    else:
        table = {"row": rows.number, "vector": column_of(rows.vectors), "clusters": column_of(rows.clusters)}
        write_table(pa.table(table), _place(folder, blocks, cluster, key - first[cluster]))
    return pa.table({"key": [key]})


def _join_blocks(cluster: int, p: int, q: int, folder: Path, kind) -> None:
    "Writes the edges of two blocks of a large cluster, or of one."
    a, b = (_read_block(folder / "blocks" / f"{cluster:08}-{block:06}.parquet") for block in (p, q))
    found = kind.edges(a, None if p == q else b, cluster)
    _write_edges(folder, f"{cluster:08}-{p:06}-{q:06}", found)


def _read_block(path: Path) -> Rows:
    table = pq.read_table(path)
    return Rows(table["row"].to_numpy(), matrix(table["vector"]), matrix(table["clusters"]))
