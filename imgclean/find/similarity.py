"""Cosine similarity of every pair of rows: the lower triangle, exact, tile by tile, in bounded memory."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from .pairs import Pairs

MAX_PAIRS = 10  # pairs kept for each image when nothing else is asked for
ROUNDING = 1e-6  # of a cosine in float32: copies may come out as 0.9999998


def normalise(emb: np.ndarray) -> torch.Tensor:  # (n, d) float32
    "`emb` with rows of length 1, as a copy; raises `ValueError` for NaN or infinity, leaves zero rows zero."
    x = torch.from_numpy(np.array(emb, dtype=np.float32, copy=True))
    if x.ndim != 2:
        raise ValueError(f"embeddings have shape {tuple(x.shape)}; give one row an image, (n, d)")
    if not torch.isfinite(x).all():
        bad = int((~torch.isfinite(x)).any(1).nonzero()[0])
        raise ValueError(f"embedding {bad} holds NaN or infinity; check the model that made it")
    return torch.nn.functional.normalize(x, dim=1, eps=1e-8)


def similar_pairs(
    emb: np.ndarray,  # (n, d) float, one row an image
    *,
    min_similarity: float | None = None,  # pairs with at least this cosine
    n: int | None = None,  # only the `n` best pairs
    max_pairs: int | None = None,  # pairs to keep at most, default 10 for each image
    block: int = 1024,  # rows of a tile; a tile takes 4 * block**2 bytes
) -> Pairs:
    """Pairs of rows by cosine similarity, each pair once, best first, exact up to float32 rounding.

    Where more than `max_pairs` reach `min_similarity`, the best are kept together with those that hold
    the groups together (a maximum spanning forest), and `left_out` counts the rest. Memory is O(n·d).
    """
    if min_similarity is not None and not -1 <= min_similarity <= 1:
        raise ValueError(f"min_similarity is {min_similarity}; a cosine lies between -1 and 1")
    if n is not None and n < 1:
        raise ValueError(f"n is {n}; ask for at least one pair")
    x = normalise(emb)
    limit = n if n is not None else max_pairs or MAX_PAIRS * len(x)
    keep = _Best(len(x), limit, -1.0 if min_similarity is None else min_similarity, forest=n is None)
    for a in range(0, len(x), block):
        for b in range(0, a + 1, block):
            tile = x[a : a + block] @ x[b : b + block].T
            rows, cols = torch.nonzero(tile >= keep.threshold - ROUNDING, as_tuple=True)
            if a == b:
                below = rows > cols
                rows, cols = rows[below], cols[below]
            if len(rows):
                score = tile[rows, cols].clamp(-1, 1)
                score = score.clamp_min(min_similarity) if min_similarity is not None else score
                keep.add((rows + a).numpy(), (cols + b).numpy(), score.numpy())
    return keep.pairs()


class _Best:
    "The best `limit` pairs of a stream, and a maximum spanning forest of all of it"

    def __init__(self, n: int, limit: int, min_similarity: float, forest: bool):
        self.n, self.limit, self.forest = n, limit, forest
        self.threshold = min_similarity
        self.kept = self.tree = Pairs.of([], [], [])
        self.seen = 0

    def add(self, i: np.ndarray, j: np.ndarray, score: np.ndarray) -> None:
        self.seen += len(i)
        kept = _concat(self.kept, (i, j, score))
        if self.forest and (len(kept[0]) > self.limit or len(self.tree)):
            new = (i, j, score) if len(self.tree) else kept
            self.tree = _spanning_forest(self.n, *_concat(self.tree, new))
        self.kept = Pairs.of(*_best_of(kept, self.limit))
        if not self.forest and len(self.kept) == self.limit:
            self.threshold = max(self.threshold, float(self.kept.score[-1]))  # no worse pair can enter

    def pairs(self) -> Pairs:
        i, j, score = _concat(self.kept, (self.tree.i, self.tree.j, self.tree.score))
        _, first = np.unique(i * self.n + j, return_index=True)
        left_out = self.seen - len(first) if self.forest else 0
        return Pairs.of(i[first], j[first], score[first], left_out)


def _concat(pairs: Pairs, arrays: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(np.concatenate(both) for both in zip((pairs.i, pairs.j, pairs.score), arrays, strict=True))


def _best_of(arrays: tuple, limit: int) -> tuple:
    i, j, score = arrays
    if len(i) <= limit:
        return arrays
    order = np.lexsort((j, i, -score))[:limit]
    return i[order], j[order], score[order]


def _spanning_forest(n: int, i: np.ndarray, j: np.ndarray, score: np.ndarray) -> Pairs:
    "At most n - 1 of the pairs, which join the same images at every threshold as all of them do."
    cost = coo_array((3.0 - score.astype(np.float64), (i, j)), shape=(n, n))  # > 0: scipy drops zeros
    tree = minimum_spanning_tree(cost.tocsr()).tocoo()
    return Pairs.of(*tree.coords, 3.0 - tree.data)
