"""The work list of a similarity matrix, and the rows that its tiles multiply, read block by block."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

ROUNDING = 1e-6  # of a cosine in float32: copies may come out as 0.9999998
SHORTEST = 1e-30  # a row shorter than this has no direction, as a row of zeros has none
READ = 2**21  # numbers that are read at once where the order does not matter
BAND = 4  # row blocks that are compared with a column block while it is in memory


class Tile(NamedTuple):
    "Rows `a` to `a_end` of one side against rows `b` to `b_end` of the other"

    a: int
    a_end: int
    b: int
    b_end: int
    diagonal: bool  # the rows meet themselves: only the triangle below the diagonal counts


def tiles(
    n: int,  # rows of the matrix
    block: int,  # rows and columns of a tile
    m: int | None = None,  # columns; None: the matrix is (n, n) and symmetric
) -> Iterator[Tile]:
    """Tiles that cover the lower triangle of an (n, n) matrix, or a whole (n, m) one, each entry once.

    Rows go up in bands of `BAND` blocks, so a column block is read once for a whole band.
    """
    for band in range(0, n, BAND * block):
        last = min(n, band + BAND * block)
        for b in range(0, last if m is None else m, block):
            b_end = min(n if m is None else m, b + block)
            for a in range(band, last, block):
                if m is not None or a >= b:
                    yield Tile(a, min(n, a + block), b, b_end, m is None and a == b)


def n_tiles(n: int, block: int, m: int | None = None) -> int:
    "How many `tiles` of the same arguments there are."
    rows = -(-n // block)
    return rows * (rows + 1) // 2 if m is None else rows * -(-m // block)


class Recent:
    "The blocks that were made last, at least two and else at most `n_bytes` of them"

    def __init__(self, n_bytes: int):
        self.room, self.blocks = n_bytes, OrderedDict()

    def get(self, key: tuple, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        if key not in self.blocks:
            self.blocks[key] = make()
            while len(self.blocks) > 2 and sum(map(_n_bytes, self.blocks.values())) > self.room:
                self.blocks.popitem(last=False)
        self.blocks.move_to_end(key)
        return self.blocks[key]


class Rows:
    """Rows of an embedding matrix at length 1, those of length 0 left out; the matrix is never copied.

    Takes float16, float32 or any other real dtype, in memory or as `np.memmap`. Raises `ValueError` for
    NaN, infinity and anything that is not (n, d).
    """

    def __init__(self, emb: np.ndarray, device: torch.device | str = "cpu"):
        self.emb = np.asanyarray(emb)
        if self.emb.ndim != 2:
            raise ValueError(f"embeddings have shape {self.emb.shape}; give one row an image, (n, d)")
        if self.emb.dtype.kind not in "fiub":
            raise ValueError(f"embeddings are {self.emb.dtype}; give real numbers, float16 or float32")
        (self.n, self.d), self.device = self.emb.shape, torch.device(device)
        norm = self._norms()
        alive = norm > SHORTEST
        self.number = None if alive.all() else np.flatnonzero(alive)  # of each row in `emb`
        self.scale = (1 / norm[alive]).astype(np.float32)
        self.recent = Recent(_cache_bytes(self.device))

    def __len__(self) -> int:
        return len(self.scale)

    def _norms(self) -> np.ndarray:  # (n,) float64
        step = max(1, READ // max(1, self.d))
        norm = np.empty(len(self.emb))
        for a in range(0, len(norm), step):
            with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused below
                x = np.asarray(self.emb[a : a + step], dtype=np.float32).astype(np.float64)
            norm[a : a + step] = np.sqrt(np.einsum("nd,nd->n", x, x))
        if not np.isfinite(norm).all():
            bad = int(np.flatnonzero(~np.isfinite(norm))[0])
            raise ValueError(f"embedding {bad} holds NaN or infinity; check the model that made it")
        return norm

    def numbers(self, k: np.ndarray) -> np.ndarray:
        "Which rows of the matrix the rows `k` are."
        return k if self.number is None else self.number[k]

    def block(self, start: int, stop: int) -> torch.Tensor:  # (stop - start, d) float32
        return self.recent.get((start, stop), lambda: self.take(slice(start, stop)))

    def take(self, k: slice | np.ndarray) -> torch.Tensor:  # (len(k), d) float32
        raw = self.emb[k if self.number is None else self.number[k]]
        unit = np.multiply(raw, self.scale[k][:, None], dtype=np.float32, casting="unsafe")
        return torch.from_numpy(np.ascontiguousarray(unit)).to(self.device)

    def sample(self, n: int, seed: int = 0) -> torch.Tensor:  # (min(n, len), d) float32
        k = np.random.default_rng(seed).choice(len(self), min(n, len(self)), replace=False)
        return self.take(np.sort(k))


def same_width(left: Rows, right: Rows) -> None:
    "Raises `ValueError` unless the rows of both sides are equally long."
    if left.d != right.d:
        raise ValueError(
            f"the two sets have {left.d} and {right.d} numbers a row; embed both with the same model and layer"
        )


def _n_bytes(x: torch.Tensor) -> int:
    return x.numel() * x.element_size()


def _cache_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 4
    return 2**26
