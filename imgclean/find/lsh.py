"""Random-hyperplane hashing: items whose vectors lie on the same side of every plane share a bucket."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from ..dataset.stored import load_arrays, save_arrays
from .best import Best
from .hamming import count_bits
from .pairs import Pairs, check_similarity
from .similarity import MAX_PAIRS, similar_pairs
from .tiles import ROUNDING, SHORTEST, Rows

KIND = "LSH index"
SMALL = 256  # rows of a bucket up to which all its pairs are compared at once
ARRAYS = ("vectors", "mean", "planes", "codes")  # attributes that a file holds
AT_ONCE = 2**22  # numbers in a batch of buckets, or in the rows that are hashed together


class LSHIndex:
    """Vectors in hash tables, for searches that look at a few buckets in place of every row.

    Each table's code has a bit for each of `n_bits` random planes through the mean of the first rows added.
    Two vectors with an angle θ about the mean share a bucket with probability `(1 - θ/π) ** n_bits`. What is
    found is compared exactly, so similarities are right, and only whether a row is looked at is left to chance.
    Memory is n·d float32 and up to 8 bytes a row and table.
    Source: Charikar, "Similarity estimation techniques from rounding algorithms", 2002.
    """

    def __init__(
        self,
        n_bits: int = 10,  # planes of a table, 1 to 64: more make smaller buckets
        n_tables: int = 5,  # more find more
        *,
        center: bool = True,  # False: planes through the origin, which vectors after a ReLU all lie to one side of
        seed: int = 0,
    ):
        if not 1 <= n_bits <= 64:
            raise ValueError(f"n_bits is {n_bits}; give 1 to 64 planes a table")
        if n_tables < 1:
            raise ValueError(f"n_tables is {n_tables}; give at least one table")
        self.n_bits, self.n_tables, self.center, self.seed = n_bits, n_tables, center, seed
        self.vectors = np.empty((0, 0), dtype=np.float32)  # (n, d), rows of length 1 or 0
        self.mean = np.empty(0, dtype=np.float32)  # (d,), what the planes go through
        self.planes = np.empty((0, 0), dtype=np.float32)  # (d, n_tables * n_bits)
        self.codes = np.empty((n_tables, 0), dtype=_code_type(n_bits))  # (n_tables, n)
        self._tables: list[_Table] | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        n, d = self.vectors.shape
        return f"LSHIndex({n} rows of {d}, n_bits={self.n_bits}, n_tables={self.n_tables})"

    def add(self, emb: np.ndarray) -> None:  # (n, d) float
        """Add rows, numbered on from those that are here; rows of zeros get a number and resemble nothing.

        Raises `ValueError` for NaN, infinity, or rows of another length than the first.
        """
        rows = Rows(emb)
        if not rows.n:
            return
        if len(self) and rows.d != self.vectors.shape[1]:
            raise ValueError(
                f"the rows have {rows.d} numbers, the index holds rows of {self.vectors.shape[1]}; "
                "embed both with the same model and layer"
            )
        new = np.zeros((rows.n, rows.d), dtype=np.float32)
        step = max(1, AT_ONCE // max(1, rows.d))
        for a in range(0, len(rows), step):
            b = min(len(rows), a + step)
            new[rows.numbers(np.arange(a, b))] = rows.take(slice(a, b)).numpy()
        if not len(self.mean):
            self._lay_planes(new)
        self.vectors = np.concatenate([self.vectors, new]) if len(self) else new
        self.codes = np.concatenate([self.codes, self._hash(new)], axis=1)
        self._tables = None

    def search(
        self,
        vec: np.ndarray,  # (d,) float
        k: int = 10,
        *,
        radius: int = 0,  # also look into buckets whose code differs in as many bits
    ) -> tuple[np.ndarray, np.ndarray]:  # (min(k, n),) int64 indices, float32 cosines, nearest first
        """The `k` rows most like `vec` among those that share a bucket with it, by exact cosine, ties by index.

        Where those are fewer than `k`, the buckets whose codes differ in the fewest bits are looked at as well.
        Raises `ValueError` for an empty index, zeros, NaN, infinity and a `vec` of another length.
        """
        if k < 1:
            raise ValueError(f"k is {k}; ask for at least one row")
        query = self._query(vec)
        near = self.candidates(query, k, radius)
        score = np.clip(self.vectors[near] @ query, -1, 1)
        best = np.lexsort((near, -score))[:k]
        return near[best], score[best]

    def candidate_pairs(
        self,
        *,
        min_similarity: float = 0.9,  # cosine
        max_pairs: int | None = None,  # pairs to keep at most, default 10 for each row
    ) -> Pairs:
        """Pairs of rows that share a bucket in some table and reach `min_similarity`, by exact cosine.

        As in `similar_pairs`, what is kept beyond `max_pairs` is what holds the groups together. `left_out`
        counts pairs of a crowded bucket again in each table. Memory beside the index does not grow with the
        buckets' sizes.
        """
        check_similarity(min_similarity)
        if max_pairs is not None and max_pairs < 1:
            raise ValueError(f"max_pairs is {max_pairs}; ask for at least one pair")
        keep = Best(
            max(1, len(self)), max_pairs or MAX_PAIRS * max(1, len(self)), min_similarity, forest=True
        )
        more = 0
        for t, table in enumerate(self._built()):
            for i, j, score, left_out in self._pairs_of(table, min_similarity, max_pairs or 0):
                new = ~(self.codes[:t, i] == self.codes[:t, j]).any(0)  # else an earlier table had the pair
                keep.add(i[new], j[new], score[new])
                more += left_out
        found = keep.pairs()
        return Pairs(found.i, found.j, found.score, found.left_out + more)

    @property
    def n_candidates(self) -> int:
        "Pairs that share a bucket, summed over the tables: what `candidate_pairs` compares."
        sizes = np.concatenate([np.zeros(0, np.int64), *(table.sizes for table in self._built())])
        return int((sizes * (sizes - 1) // 2).sum())

    @property
    def settings(self) -> dict:
        "What `LSHIndex` takes to make another one like this."
        return {"n_bits": self.n_bits, "n_tables": self.n_tables, "center": self.center, "seed": self.seed}

    def arrays(self) -> dict[str, np.ndarray]:
        "All that the index has learnt of its rows, for `from_arrays`."
        return {name: getattr(self, name) for name in ARRAYS}

    @classmethod
    def from_arrays(cls, settings: dict, arrays: dict[str, np.ndarray]) -> LSHIndex:
        "The index whose `settings` and `arrays` these are."
        index = cls(**settings)
        for name in ARRAYS:
            setattr(index, name, arrays[name])
        return index

    def save(self, path: str | os.PathLike) -> None:
        "Write the index to one .npz file, whole or not at all."
        save_arrays(path, KIND, {"settings": self.settings}, self.arrays())

    @classmethod
    def load(cls, path: str | os.PathLike) -> LSHIndex:
        "The index that `save` wrote; raises `ValueError` for a damaged or foreign file."
        about, arrays = load_arrays(path, KIND, ARRAYS)
        return cls.from_arrays(about["settings"], arrays)

    def _lay_planes(self, first: np.ndarray) -> None:
        d = first.shape[1]
        planes = np.random.default_rng(self.seed).standard_normal((d, self.n_tables * self.n_bits))
        self.planes = planes.astype(np.float32)
        alive = first[_alive(first)]
        middle = alive.mean(0, dtype=np.float64) if self.center and len(alive) > 1 else np.zeros(d)
        self.mean = middle.astype(np.float32)

    def _hash(self, unit: np.ndarray) -> np.ndarray:  # (n_tables, n)
        offset = self.mean @ self.planes
        codes = np.empty((self.n_tables, len(unit)), dtype=self.codes.dtype)
        step = max(1, AT_ONCE // max(self.planes.shape))
        for a in range(0, len(unit), step):
            side = unit[a : a + step] @ self.planes > offset
            bits = side.reshape(len(side), self.n_tables, self.n_bits)
            packed = np.packbits(bits, axis=-1, bitorder="little")
            room = np.zeros((len(side), self.n_tables, codes.itemsize), dtype=np.uint8)
            room[..., : packed.shape[-1]] = packed
            codes[:, a : a + step] = room.view(codes.dtype.newbyteorder("<"))[..., 0].T
        return codes

    def _query(self, vec: np.ndarray) -> np.ndarray:  # (d,) float32 of length 1
        if not len(self):
            raise ValueError("the index is empty; add embeddings first")
        vec = np.asarray(vec)
        if vec.shape != self.vectors.shape[1:]:
            raise ValueError(
                f"the query has shape {vec.shape}, the index holds rows of {self.vectors.shape[1]} numbers; "
                "give one vector from the same model and layer"
            )
        rows = Rows(vec[None])
        if not len(rows):
            raise ValueError("the query is all zeros, which resembles nothing; check the model that made it")
        return rows.take(slice(None)).numpy()[0]

    def candidates(self, query: np.ndarray, k: int, radius: int = 0) -> np.ndarray:  # sorted indices
        "The rows that `search` compares with `query`, a vector of length 1."
        tables, codes = self._built(), self._hash(query[None])[:, 0]
        differ = [
            count_bits((t.codes ^ code).astype(np.uint64)) for t, code in zip(tables, codes, strict=True)
        ]
        near = np.empty(0, dtype=np.int64)
        for bits in range(self.n_bits + 1):
            buckets = [
                table.bucket(bucket)
                for table, distance in zip(tables, differ, strict=True)
                for bucket in np.flatnonzero(distance == bits)
            ]
            near = np.unique(np.concatenate([near, *buckets]))
            if bits >= radius and len(near) >= k:
                break
        return near

    def _built(self) -> list[_Table]:
        if self._tables is None:
            rows = np.flatnonzero(_alive(self.vectors))
            self._tables = [_Table(codes[rows], rows) for codes in self.codes]
        return self._tables

    def _pairs_of(
        self, table: _Table, least: float, max_pairs: int
    ) -> Iterator[tuple]:  # i, j, score, left out
        "Pairs within each bucket; those of as many rows are compared in one batch."
        d = self.vectors.shape[1]
        for size in np.unique(table.sizes[table.sizes > 1]).tolist():
            buckets = np.flatnonzero(table.sizes == size)
            if size > SMALL:
                for bucket in buckets:
                    rows = table.bucket(bucket)
                    found = similar_pairs(
                        self.vectors[rows], min_similarity=least, max_pairs=max(max_pairs, MAX_PAIRS * size)
                    )
                    yield rows[found.i], rows[found.j], found.score, found.left_out
                continue
            step = max(1, AT_ONCE // (size * max(size, d)))
            for a in range(0, len(buckets), step):
                rows = table.order[table.starts[buckets[a : a + step], None] + np.arange(size)]
                x = self.vectors[rows]
                tiles = x @ x.transpose(0, 2, 1)
                b, r, c = np.nonzero((tiles >= least - ROUNDING) & np.tri(size, k=-1, dtype=bool))
                yield rows[b, r], rows[b, c], tiles[b, r, c], 0


class _Table:
    "One table: rows in the order of their codes, and where each bucket starts"

    def __init__(self, codes: np.ndarray, rows: np.ndarray):
        by_code = np.argsort(codes, kind="stable")  # within a bucket by row
        self.order = rows[by_code]
        self.codes, self.starts, self.sizes = np.unique(codes[by_code], return_index=True, return_counts=True)

    def bucket(self, k: int) -> np.ndarray:
        return self.order[self.starts[k] : self.starts[k] + self.sizes[k]]


def _alive(unit: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", unit, unit) > SHORTEST


def _code_type(n_bits: int) -> np.dtype:
    "The smallest unsigned integer that holds a code."
    return np.dtype(next(f"u{size}" for size in (1, 2, 4, 8) if n_bits <= 8 * size))
