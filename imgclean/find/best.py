"""What is kept of a stream of pairs: the best of them, and a forest that holds the groups together."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from .pairs import Pairs
from .tiles import ROUNDING, Tile

LEVELS = 8  # similarities at which the forest is asked whether a pair is news
FLUSH = 2**16  # pairs that are collected before they are sorted in
Edges = tuple[np.ndarray, np.ndarray, np.ndarray]  # i, j, score


class Best:
    """The best `limit` pairs of a stream and, with `forest`, a maximum spanning forest of all of it.

    The forest's scores are right to `2 * ROUNDING`: what differs by less is one similarity.
    """

    chunk = FLUSH  # candidates that may wait for their re-check

    def __init__(
        self,
        n: int,  # items
        limit: int,
        min_score: float,
        *,
        forest: bool,
        highest: float = 1.0,  # score of a perfect match
        rounding: float = ROUNDING,
        shift: int = 0,  # what to add to a row's number to have its item: rows of a second set count on
    ):
        self.n, self.limit, self.forest, self.shift = n, limit, forest, shift
        self.min_score, self.highest, self.rounding = min_score, highest, rounding
        self.index = np.int32 if n < 2**31 else np.int64
        self.kept = self.tree = self._edges([], [], [])
        self.room = max(FLUSH, min(limit, 2**21)) if forest else max(2**12, limit // 4)
        self.waiting: list[Edges] = []  # at most about `room`
        self.n_waiting = self.seen = 0
        self.worst: tuple[float, int] | None = (
            None  # score and i of the last pair kept, once there are enough
        )
        self._labels: list[torch.Tensor] | None = None

    # What the join asks.

    def limit_of(self, tile: Tile) -> float:
        "The lowest score that a pair of `tile` needs to matter."
        low = self.min_score - self.rounding
        return low if self.forest else max(low, self._entry(tile))

    def wants(self, tile: Tile, scores: torch.Tensor, margin: float, budget: float) -> tuple | None:
        "Rows and columns of a filter's tile that may matter; None where they are more than `budget`."
        return above(scores, self.limit_of(tile) - margin, tile.diagonal, budget)

    def add(self, i: np.ndarray, j: np.ndarray, score: np.ndarray) -> None:
        "Pairs of rows with their scores; those below the limit are dropped."
        reach = score >= self.min_score - self.rounding
        self.seen += int(reach.sum())
        self._push(i[reach], j[reach], score[reach])

    def add_tile(self, tile: Tile, scores: torch.Tensor) -> None:
        "A whole tile of scores, (rows, columns)."
        scores = scores.clamp_max_(self.highest)
        limit = self.limit_of(tile)
        top = scores.amax(1)
        rows = (top >= limit).nonzero()[:, 0]
        if not len(rows):
            return
        scores = scores if len(rows) == len(scores) else scores[rows]
        hits = scores >= limit
        if tile.diagonal:
            hits &= torch.arange(scores.shape[1], device=rows.device) < rows[:, None]
        count = int(torch.count_nonzero(hits))
        self.seen += count
        if self.forest and self.worst and len(self.tree[0]) and count > 4 * sum(scores.shape):
            self._add_crowd(tile, rows, scores, hits)
        else:
            self._push_hits(tile, rows, scores, hits)

    def pairs(self) -> Pairs:
        "What was kept; `left_out` counts the rest."
        self._flush()
        i, j, score = _concat(self.kept, self.tree)
        key, first = np.unique(i.astype(np.int64) * self.n + j, return_index=True)
        left_out = self.seen - len(key) if self.forest else 0
        return Pairs.of(i[first], j[first], score[first], left_out)

    # A tile with more pairs than could be of use.

    def _add_crowd(self, tile: Tile, rows: torch.Tensor, scores: torch.Tensor, hits: torch.Tensor) -> None:
        "Only what is better than the worst pair kept, or joins what the forest does not join as well."
        news = self._joins(tile, rows, scores, hits)
        if int(torch.count_nonzero(news)) > max(self.n, FLUSH) // 2:
            first = _best_of_each(scores, news)  # a round of Borůvka, after which most of the rest is no news
            self._push_hits(tile, rows, scores, first)
            self._flush()
            hits = hits & ~first
            news = self._joins(tile, rows, scores, hits)
        self._push_hits(tile, rows, scores, (hits & (scores >= self._entry(tile))) | news)

    def _joins(
        self, tile: Tile, rows: torch.Tensor, scores: torch.Tensor, hits: torch.Tensor
    ) -> torch.Tensor:
        "Which hits join two items that the forest does not yet join at their own similarity."
        news, top = torch.zeros_like(hits), float(scores.max())
        for level, label in zip(self._levels(), self._labels_on(scores.device), strict=True):
            if level > top:
                break
            a = label[tile.a + self.shift : tile.a_end + self.shift][rows]
            b = label[tile.b : tile.b_end]
            if (a == a[0]).all() and (b == a[0]).all():
                continue  # all joined already
            news |= (scores >= level) & (a[:, None] != b)
        return news & hits

    def _levels(self) -> np.ndarray:
        low, high = self.min_score - self.rounding, self.highest - 2 * self.rounding
        return np.linspace(low, max(low, high), LEVELS)

    def _labels_on(self, device: torch.device) -> list[torch.Tensor]:
        """For each level, the component of each item at the next level up.

        A pair between two levels is no news where its ends are joined at the upper one; one at the highest
        level, where they are joined at that level.
        """
        if self._labels is None:
            i, j, score = self.tree
            levels = self._levels()
            self._labels = []
            for level in [*levels[1:], levels[-1]]:
                on = score >= level
                graph = coo_array((np.ones(int(on.sum()), np.int8), (i[on], j[on])), shape=(self.n, self.n))
                label = connected_components(graph, directed=False)[1]
                self._labels.append(torch.from_numpy(label.astype(np.int32)).to(device))
        return self._labels

    # The books.

    def _entry(self, tile: Tile) -> float:
        "The lowest score with which a pair of `tile` is better than the worst of those kept."
        if self.worst is None:
            return -np.inf
        score, i = self.worst
        # Of equal scores the lower (i, j) is better, and this tile's are all behind.
        return np.nextafter(np.float32(score), np.float32(np.inf)) if tile.a + self.shift > i else score

    def _push_hits(self, tile: Tile, rows: torch.Tensor, scores: torch.Tensor, hits: torch.Tensor) -> None:
        r, c = hits.nonzero(as_tuple=True)
        score = scores[r, c]
        self._push((rows[r] + tile.a).cpu().numpy(), (c + tile.b).cpu().numpy(), score.cpu().numpy())

    def _push(self, i: np.ndarray, j: np.ndarray, score: np.ndarray) -> None:
        if not len(i):
            return
        score = np.clip(score, self.min_score, self.highest)
        self.waiting.append(self._edges(i + self.shift, j, score))
        self.n_waiting += len(i)
        if self.n_waiting > self.room:
            self._flush()

    def _flush(self) -> None:
        if not self.n_waiting:
            return
        new = _concat(*self.waiting)
        self.waiting, self.n_waiting = [], 0
        every = _concat(self.kept, new)
        if self.forest and (len(every[0]) > self.limit or len(self.tree[0])):
            # The forest begins when a pair is about to be forgotten; until then it is within those kept.
            fresh = new if len(self.tree[0]) else every
            self.tree = self._edges(*_spanning_forest(self.n, *_concat(self.tree, fresh)))
            self._labels = None
        self.kept = _best_of(every, self.limit)
        if len(self.kept[0]) == self.limit:
            i, _, score = self.kept
            low = score.min()
            self.worst = float(low), int(i[score == low].max())

    def _edges(self, i, j, score) -> Edges:
        return np.asarray(i, self.index), np.asarray(j, self.index), np.asarray(score, np.float32)


def above(
    scores: torch.Tensor,  # (rows, columns) float32 or bfloat16
    limit: float | torch.Tensor,  # or one for each row
    diagonal: bool = False,  # only below the diagonal
    budget: float = np.inf,
) -> tuple[torch.Tensor, torch.Tensor] | None:  # rows, columns
    "Where `scores` reach `limit`; None where that is in more than `budget` places."
    scores, limit = _comparable(scores, limit)
    rows = (scores.amax(1) >= limit).nonzero()[:, 0]
    if isinstance(limit, torch.Tensor):
        limit = limit[rows, None]
    hits = scores[rows] >= limit
    if diagonal:
        hits &= torch.arange(scores.shape[1], device=rows.device) < rows[:, None]
    if int(torch.count_nonzero(hits)) > budget:
        return None
    r, c = hits.nonzero(as_tuple=True)
    return rows[r], c


def _comparable(scores: torch.Tensor, limit: float | torch.Tensor) -> tuple:
    "bfloat16 as the integers of its bits, which have the same order where positive and compare faster."
    if scores.dtype != torch.bfloat16:
        return scores, limit
    if isinstance(limit, torch.Tensor) or limit <= 0:
        return scores.float(), limit
    return scores.view(torch.int16), int(np.float32(limit).view(np.int32) >> 16)  # rounds the limit down


def _best_of_each(scores: torch.Tensor, hits: torch.Tensor) -> torch.Tensor:
    "The best hit of each row and of each column."
    masked = torch.where(hits, scores, -torch.inf)
    best = torch.zeros_like(hits)
    best.scatter_(1, masked.argmax(1, keepdim=True), True)
    best.scatter_(0, masked.argmax(0, keepdim=True), True)
    return best & hits


def _concat(*edges: Edges) -> Edges:
    return tuple(np.concatenate(parts) for parts in zip(*edges, strict=True))


def _best_of(edges: Edges, limit: int) -> Edges:
    "The best `limit`, ties by (i, j)."
    i, j, score = edges
    if len(i) <= limit:
        return edges
    low = np.partition(score, len(score) - limit)[len(score) - limit]
    sure, tied = np.flatnonzero(score > low), np.flatnonzero(score == low)
    tied = tied[np.lexsort((j[tied], i[tied]))[: limit - len(sure)]]
    keep = np.concatenate([sure, tied])
    return i[keep], j[keep], score[keep]


def _spanning_forest(n: int, i: np.ndarray, j: np.ndarray, score: np.ndarray) -> Edges:
    "At most n - 1 of the pairs, which join the same items at every threshold as all of them do."
    # Costs above 0, since scipy drops zeros; the same pair twice would be added up.
    key, at = np.unique(i.astype(np.int64) * n + j, return_index=True)
    top = float(score.max(initial=0)) + 1
    ends = ((key // n).astype(np.int32), (key % n).astype(np.int32))  # scipy before 1.16 takes no others
    cost = coo_array((top - score[at].astype(np.float64), ends), shape=(n, n))
    tree = minimum_spanning_tree(cost.tocsr()).tocoo()
    return tree.coords[0], tree.coords[1], top - tree.data
