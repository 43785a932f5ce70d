"""What is kept of a stream of pairs: the k nearest neighbours of each row."""

from __future__ import annotations

import numpy as np
import torch

from .best import above
from .tiles import Tile


class Nearest:
    "The `k` best scores of each row of the left side, and with `both` those of each column as well"

    chunk = 2**13  # candidates that may wait: their re-check raises the limits of the tiles to come

    def __init__(self, n: int, k: int, *, both: bool):
        self.k, self.both = k, both  # both: the sides are one set, so a pair serves either of its ends
        self.index = np.full((n, k), -1, dtype=np.int64)
        self.score = np.full((n, k), -np.inf, dtype=np.float32)  # best first

    def limit_of(self, tile: Tile) -> np.ndarray:  # (rows of the tile,)
        return self.score[tile.a : tile.a_end, -1]

    def wants(self, tile: Tile, scores: torch.Tensor, margin: float, budget: float) -> tuple | None:
        "Rows and columns of a filter's tile that may be nearer than the furthest neighbour known so far."
        found = above(scores, self._limits(tile.a, tile.a_end, scores) - margin, tile.diagonal, budget)
        if found is None or not self.both:
            return found
        turned = above(scores.T, self._limits(tile.b, tile.b_end, scores) - margin, False, budget)
        if turned is None:
            return None
        width = scores.shape[1]
        rows, cols = torch.cat([found[0], turned[1]]), torch.cat([found[1], turned[0]])
        if tile.diagonal:
            rows, cols = rows[rows > cols], cols[rows > cols]
        key = torch.unique(rows * width + cols)
        return key // width, key % width

    def add(self, i: np.ndarray, j: np.ndarray, score: np.ndarray) -> None:
        "Pairs of rows with their scores."
        self._merge(i, j, score)
        if self.both:
            self._merge(j, i, score)

    def add_tile(self, tile: Tile, scores: torch.Tensor) -> None:
        "A whole tile of scores, (rows, columns)."
        if tile.diagonal:
            scores.fill_diagonal_(-torch.inf)
        self._add_rows(tile.a, tile.b, scores)
        if self.both and not tile.diagonal:
            self._add_rows(tile.b, tile.a, scores.T)

    def _add_rows(self, a: int, b: int, scores: torch.Tensor) -> None:
        limit = self._limits(a, a + len(scores), scores)
        rows = (scores.amax(1) > limit).nonzero()[:, 0]
        if len(rows):
            best, cols = scores[rows].topk(min(self.k, scores.shape[1]), sorted=False)
            i = rows[:, None].expand_as(cols) + a
            self._merge(*(x.flatten().cpu().numpy() for x in (i, cols + b, best)))

    def _limits(self, start: int, stop: int, like: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.score[start:stop, -1].astype(np.float32)).to(like.device)

    def _merge(self, i: np.ndarray, j: np.ndarray, score: np.ndarray) -> None:
        "Neighbours `j` into the lists of `i`; ties by index."
        score = np.clip(score, -np.inf, 1)
        new = score > self.score[i, -1]
        i, j, score = i[new], j[new], score[new]
        if not len(i):
            return
        rows, place = np.unique(i, return_inverse=True)
        row = np.concatenate([np.repeat(np.arange(len(rows)), self.k), place])
        j = np.concatenate([self.index[rows].ravel(), j])
        score = np.concatenate([self.score[rows].ravel(), score])
        order = np.lexsort((j, -score, row))
        row, j, score = row[order], j[order], score[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        keep = rank < self.k
        self.index[rows] = j[keep].reshape(len(rows), self.k)
        self.score[rows] = score[keep].reshape(len(rows), self.k)
