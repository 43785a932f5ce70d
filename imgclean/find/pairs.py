"""`Pairs(i, j, score)`: the coin in which every finder pays. Knows arrays only, no images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Pairs:
    "Pairs of items, each once with i > j, highest score first, ties by (i, j)"

    i: np.ndarray  # (m,) int64
    j: np.ndarray  # (m,) int64
    score: np.ndarray  # (m,) float32, larger is more alike
    left_out: int = 0  # pairs that were found and not kept, see `similarity.similar_pairs`

    @classmethod
    def of(cls, i, j, score, left_out: int = 0) -> Pairs:
        "`Pairs` from three arrays in any order; raises `ValueError` where an item is paired with itself."
        i, j = np.asarray(i, dtype=np.int64), np.asarray(j, dtype=np.int64)
        score = np.asarray(score, dtype=np.float32)
        if not len(i) == len(j) == len(score):
            raise ValueError(
                f"i, j and score have {len(i)}, {len(j)} and {len(score)} entries; give as many of each"
            )
        if (i == j).any():
            raise ValueError("an item is paired with itself; give pairs of different items")
        i, j = np.maximum(i, j), np.minimum(i, j)
        order = np.lexsort((j, i, -score))
        return cls(i[order], j[order], score[order], left_out)

    def __len__(self) -> int:
        return len(self.i)

    def __iter__(self) -> Iterator[tuple[int, int, float]]:
        return zip(self.i.tolist(), self.j.tolist(), self.score.tolist(), strict=True)

    def __repr__(self) -> str:
        span = f", score {self.score[-1]:.4f} to {self.score[0]:.4f}" if len(self) else ""
        return f"Pairs({len(self)}{span})"

    def top(self, n: int) -> Pairs:
        "The `n` best pairs."
        return Pairs(self.i[:n], self.j[:n], self.score[:n], self.left_out)
