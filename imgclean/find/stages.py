"""Candidates stage by stage, cheapest first: equal files and pixels, perceptual hashes, neighbours, what these link."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .hamming import oriented_pairs
from .linkage import connected
from .pairs import Pairs
from .similarity import cosines, nearest
from .whitening import Whitening

if TYPE_CHECKING:
    from ..features.hashes import Hashes

MAX_DISTANCE = 6  # bits of 64; measured in docs/hashes.md
LINKED = 30  # images: of larger crowds not every pair is looked at


class Candidates(NamedTuple):
    "Pairs worth a second look"

    pairs: Pairs  # each once; the score is the cosine of their embeddings
    stages: tuple[str, ...]  # for each of `pairs`, the first stage that found it


def candidates(stages: Sequence[tuple[str, Pairs]], vectors: np.ndarray) -> Candidates:
    "The pairs of all `stages`, in whose order they are named, among the images that `vectors` (n, d) embed."
    names = [name for name, _ in stages]
    key = np.concatenate([pairs.i * len(vectors) + pairs.j for _, pairs in stages])
    stage = np.repeat(np.arange(len(stages)), [len(pairs) for _, pairs in stages])
    key, first = np.unique(key, return_index=True)  # the first of several is that of the cheapest stage
    i, j = key // len(vectors), key % len(vectors)
    pairs = Pairs.of(i, j, cosines(vectors, i, j))
    place = np.searchsorted(key, pairs.i * len(vectors) + pairs.j)
    return Candidates(pairs, tuple(names[s] for s in stage[first][place]))


def neighbour_pairs(index: np.ndarray, score: np.ndarray) -> Pairs:
    "Each pair of rows and their nearest, as `similarity.nearest` found them, once; -1 stands for none."
    row = np.repeat(np.arange(len(index)), index.shape[1])
    there = index.ravel() >= 0
    a, b, score = row[there], index.ravel()[there], score.ravel()[there]
    i, j = np.maximum(a, b), np.minimum(a, b)
    _, first = np.unique(i * len(index) + j, return_index=True)
    return Pairs.of(i[first], j[first], score[first])


class Neighbours:
    "The `k` nearest of some vectors, as they are and whitened"

    def __init__(self, vectors: np.ndarray, k: int):  # (n, d) float
        self.vectors, self.k, self._whitening = vectors, k, Whitening(vectors)
        self._kinds = self._both(vectors)

    def pairs(self, progress: bool = True) -> Pairs:
        "Each pair of neighbours once."
        k = min(self.k, max(len(self.vectors) - 1, 1))
        found = [neighbour_pairs(*nearest(kind, k, progress=progress)) for kind in self._kinds]
        return reduce(Pairs.merge, found)

    def of(
        self, others: np.ndarray
    ) -> list[tuple[int, int]]:  # (row of `others`, row of the vectors), sorted
        "Each row of `others` (m, d) with each of its neighbours."
        if not len(others):
            return []
        k, found = min(self.k, len(self.vectors)), set()
        for x, kind in zip(self._both(others), self._kinds, strict=True):
            index, _ = nearest(x, k, others=kind, progress=False)
            row, place = np.nonzero(index >= 0)
            found.update(zip(row.tolist(), index[row, place].tolist(), strict=True))
        return sorted(found)

    def _both(self, vectors: np.ndarray) -> list[np.ndarray]:
        return [vectors, self._whitening(vectors)] if self._whitening.dims else [vectors]


def linked_pairs(same: Pairs, known: Pairs) -> Pairs:
    """The pairs of images that a chain of pairs in `same` connects and that are not among `known`, score 0.

    Copies of one picture that are too far from each other to be neighbours are found by way of a third. Where more
    than `LINKED` images hang together, none of them are paired.
    """
    seen = set(zip(known.i.tolist(), known.j.tolist(), strict=True))
    crowds = (ks for ks in connected(same) if len(ks) <= LINKED)
    new = [(b, a) for ks in crowds for a, b in combinations(ks, 2) if (b, a) not in seen]
    i, j = np.array(new, dtype=np.int64).reshape(-1, 2).T
    return Pairs.of(i, j, np.zeros(len(new)))


def hash_pairs(
    hashes: Hashes,
    max_distance: int = MAX_DISTANCE,  # bits of 64 in which perceptual hashes may differ
) -> list[tuple[str, Pairs]]:
    """The pairs of each stage, cheapest first: "exact" (equal files), "same pixels" and "perceptual".

    Scores go up to 1, for what is identical. Of a crowd of equal files each is paired with the first alone, and
    `left_out` counts the other pairs. What cannot be read, and by perceptual hash what is plain, is in no pair.
    """
    return [
        ("exact", equal_pairs(hashes.content)),
        ("same pixels", equal_pairs(hashes.pixels)),
        ("perceptual", oriented_pairs(hashes.perceptual, max_distance, among=~hashes.plain)),
    ]


def equal_pairs(digests: Sequence[bytes | None]) -> Pairs:
    "Each item with the first one that has the same digest, score 1; None is equal to nothing."
    first: dict[bytes, int] = {}
    counts: dict[bytes, int] = {}
    pairs = []
    for k, digest in enumerate(digests):
        if digest is None:
            continue
        if digest in first:
            pairs.append((k, first[digest]))
        first.setdefault(digest, k)
        counts[digest] = counts.get(digest, 0) + 1
    i, j = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    every = sum(n * (n - 1) // 2 for n in counts.values())
    return Pairs.of(i, j, np.ones(len(pairs)), every - len(pairs))
