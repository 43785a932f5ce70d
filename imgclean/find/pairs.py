"""`Pairs(i, j, score)`: the coin in which every finder pays. Knows arrays only, no images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # the review carries Pairs and opens without pandas
    import pandas as pd


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

    def above(self, min_score: float) -> Pairs:
        "The pairs that score at least `min_score`."
        n = int(np.searchsorted(-self.score, -np.float32(min_score), side="right"))
        return self.top(n)

    def merge(self, other: Pairs) -> Pairs:
        "The pairs of both, each once with the better of its scores; `left_out` is the sum. Associative."
        both = [
            np.concatenate(ab) for ab in ((self.i, other.i), (self.j, other.j), (self.score, other.score))
        ]
        merged = Pairs.of(*both)
        order = np.lexsort((np.arange(len(merged)), merged.j, merged.i))  # best first within each pair
        i, j = merged.i[order], merged.j[order]
        first = np.ones(len(merged), dtype=bool)
        first[1:] = (i[1:] != i[:-1]) | (j[1:] != j[:-1])
        keep = np.sort(order[first])
        return Pairs(merged.i[keep], merged.j[keep], merged.score[keep], self.left_out + other.left_out)

    def df(self) -> pd.DataFrame:
        "The pairs as a table with the columns i, j and score, `left_out` among its `attrs`."
        import pandas as pd

        table = pd.DataFrame({"i": self.i, "j": self.j, "score": self.score})
        table.attrs["left_out"] = self.left_out
        return table

    @classmethod
    def from_df(cls, table: pd.DataFrame) -> Pairs:
        "`Pairs` of a table with the columns i, j and score; raises `ValueError` where one is missing."
        missing = [name for name in ("i", "j", "score") if name not in table.columns]
        if missing:
            raise ValueError(
                f"the table has no column {missing[0]!r}, it has {list(table.columns)}; give i, j and score"
            )
        return cls.of(table["i"], table["j"], table["score"], int(table.attrs.get("left_out", 0)))

    def to_parquet(self, path: str | os.PathLike) -> None:
        "Writes the table of `df` as a parquet file; raises `ImportError` where nothing can write parquet."
        check_parquet()
        self.df().to_parquet(path)

    @classmethod
    def from_parquet(cls, path: str | os.PathLike) -> Pairs:
        "`Pairs` from a file of `to_parquet`; raises `ImportError` where nothing can read parquet."
        check_parquet()
        import pandas as pd

        return cls.from_df(pd.read_parquet(path))


def check_similarity(min_similarity: float) -> None:
    "Raises `ValueError` for what no cosine is."
    if not -1 <= min_similarity <= 1:
        raise ValueError(f"min_similarity is {min_similarity}; a cosine lies between -1 and 1")


def check_parquet() -> None:
    "Raises `ImportError` where nothing can read or write parquet."
    if not (find_spec("pyarrow") or find_spec("fastparquet")):
        raise ImportError("parquet files need pyarrow, which is not installed; run `pip install pyarrow`")
