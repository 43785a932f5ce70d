"""Pairs worth a second look, found on many machines: equal files, and each image's nearest, as they are and whitened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..cascade import NEIGHBOURS
from ..find.pairs import Pairs
from ..find.similarity import nearest
from ..find.whitening import SAMPLE, Whitening
from .clustering import Clusters
from .joining import Edges, Rows, counted_once, edge_tables, exact_cosines, join
from .tables import Numbering
from .tasks import take_rows

EXACT, NEAR = "exact", "neighbours"  # stages, as one machine calls them


@dataclass(frozen=True)
class Nearest:
    "The nearest rows of each row by both kinds of vectors, of at least a cosine"

    k: int
    min_similarity: float
    whitening: Whitening

    def edges(self, a: Rows, b: Rows | None, cluster: int | None) -> Edges:
        "Pairs of neighbours among the rows of `a`, or between those of `a` and `b`, that share no cluster before `cluster`."
        parts = [self._of_kind(kind, a, b, cluster) for kind in ("plain", "whitened")]
        return Edges({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, 0)

    def _of_kind(self, kind: str, a: Rows, b: Rows | None, cluster: int | None) -> dict[str, np.ndarray]:
        other = a if b is None else b
        x, y = self._vectors(kind, a), None if b is None else self._vectors(kind, b)
        i, j = self._neighbours(x, y)
        i, j = counted_once(a, other, i, j, cluster)
        score = exact_cosines(a.vectors, other.vectors, i, j)
        high = score >= self.min_similarity
        i, j, score = i[high], j[high], score[high]
        near = score if kind == "plain" else exact_cosines(x, x if y is None else y, i, j)
        i, j = a.number[i], other.number[j]
        return {
            "i": np.maximum(i, j), "j": np.minimum(i, j), "score": score.astype(np.float32),
            "near": near.astype(np.float32), "whitened": np.full(len(i), kind == "whitened"),
        }  # fmt: skip

    def _vectors(self, kind: str, rows: Rows) -> np.ndarray:
        if kind == "plain":
            return rows.vectors
        return self.whitening(rows.vectors) if self.whitening.dims else rows.vectors[:, :0]

    def _neighbours(self, x: np.ndarray, y: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        "Places in `x` and in `y`, or both in `x`, each pair once."
        if not x.shape[1] or len(x) < (2 if y is None else 1):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        if y is None:
            i, j = _listed(nearest(x, min(self.k, len(x) - 1))[0])
            i, j, width = np.maximum(i, j), np.minimum(i, j), len(x)
        else:
            i, j = _listed(nearest(x, min(self.k, len(y)), others=y)[0])
            back, there = _listed(nearest(y, min(self.k, len(x)), others=x)[0])
            i, j, width = np.concatenate([i, there]), np.concatenate([j, back]), len(y)
        key = np.unique(i * width + j)
        return key // width, key % width


def _listed(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    row, place = np.nonzero(index >= 0)
    return row, index[row, place]


class Top:
    "The `k` nearest of each of `n` rows in a stream of pairs of which each comes once"

    def __init__(self, n: int, k: int):
        self.n, self.k = n, k
        self.other = np.full((n, k), -1, dtype=np.int32 if n < 2**31 else np.int64)
        self.near = np.full((n, k), -np.inf, dtype=np.float32)
        self.score = np.zeros((n, k), dtype=np.float32)

    def add(self, i: np.ndarray, j: np.ndarray, near: np.ndarray, score: np.ndarray) -> None:
        row, other = np.concatenate([i, j]), np.concatenate([j, i])
        near, score = np.tile(near, 2), np.tile(score, 2)
        rows = np.unique(row)
        known = (
            np.repeat(rows, self.k),
            self.other[rows].ravel(),
            self.near[rows].ravel(),
            self.score[rows].ravel(),
        )
        row, other, near, score = map(np.concatenate, zip((row, other, near, score), known, strict=True))
        order = np.lexsort((other, -near, row))
        row, other, near, score = row[order], other[order], near[order], score[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        best = place < self.k
        at = row[best], place[best]
        self.other[at], self.near[at], self.score[at] = other[best], near[best], score[best]

    def pairs(self) -> Pairs:
        "Each row with its nearest, each pair once; the score is the cosine."
        row, place = np.nonzero(self.other >= 0)
        other, score = self.other[row, place].astype(np.int64), self.score[row, place]
        i, j = np.maximum(row, other), np.minimum(row, other)
        first = np.unique(i * self.n + j, return_index=True)[1]
        return Pairs.of(i[first], j[first], score[first])


def find_candidates(
    numbering: Numbering,
    out: Path,  # gets the folder `join`
    *,
    method: str,
    clusters: Clusters | None,
    k: int = NEIGHBOURS,  # of each image, and as many by whitened vectors
    min_similarity: float,  # cosine of the embeddings below which nobody looks again
    seed: int = 0,
    max_cluster_size: int | None = None,
    num_partitions: int | None = None,
) -> tuple[Pairs, np.ndarray, dict]:  # score: cosine; stage of each pair; what the join says of itself
    "Equal files, each paired with the first alone, and the nearest of each row among those that it was compared with."
    whitening = sampled_whitening(numbering, seed)
    settings = {"k": k, "min_similarity": min_similarity, "seed": seed}
    folder, said = join(
        numbering, out, Nearest(k, min_similarity, whitening), settings, method=method, clusters=clusters,
        max_cluster_size=max_cluster_size, num_partitions=num_partitions,
    )  # fmt: skip
    near = _nearest_of(folder, len(numbering), k)
    same = equal_files(numbering.digests)
    pairs = same.merge(near)
    return pairs, np.where(is_among(same, pairs, len(numbering)), EXACT, NEAR), said


def sampled_whitening(numbering: Numbering, seed: int) -> Whitening:
    "Learnt from a seeded sample, as on one machine."
    n = len(numbering)
    rows = (
        np.arange(n) if n <= SAMPLE else np.sort(np.random.default_rng(seed).choice(n, SAMPLE, replace=False))
    )
    return Whitening(take_rows(numbering, rows), seed)


def _nearest_of(folder: Path, n: int, k: int) -> Pairs:
    found = {False: Top(n, k), True: Top(n, k)}
    for table in edge_tables(folder):
        whitened = table["whitened"].to_numpy(zero_copy_only=False)
        columns = [table[name].to_numpy() for name in ("i", "j", "near", "score")]
        for kind, top in found.items():
            top.add(*(column[whitened == kind] for column in columns))
    return found[False].pairs().merge(found[True].pairs())


def equal_files(digests: pa.Array) -> Pairs:  # (n,) binary
    "Each row with the first one that has the same digest, score 1; `left_out` counts the other pairs of equal files."
    code = pc.dictionary_encode(digests).indices.to_numpy(zero_copy_only=False)
    _, first, counts = np.unique(code, return_index=True, return_counts=True)
    rows = np.flatnonzero(first[code] != np.arange(len(code)))
    every = int((counts * (counts - 1) // 2).sum())
    return Pairs.of(rows, first[code][rows], np.ones(len(rows)), every - len(rows))


def is_among(some: Pairs, pairs: Pairs, n: int) -> np.ndarray:  # (len(pairs),) bool
    "Which of `pairs` are among `some`."
    return np.isin(pairs.i * n + pairs.j, some.i * n + some.j)
