"""Certified filters: cheap products that miss no pair. What they let through is compared again in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch

from . import tiles
from .best import above
from .tiles import ROUNDING, Recent, Rows

FILTERS = ("none", "bf16", "pca", "pca+bf16")
# Both operands to 8 bits (2 * 2**-8 + 2**-16), the result as well (2**-9), sums in float32 (1e-4).
BF16_MARGIN = 2 * 2**-8 + 2**-16 + 2**-9 + 1e-4
# A sketch is kept in float16 (11 bits; below 6e-5 fixed point) and its 257 products summed in float32.
HALF_MARGIN = 2 * 2**-11 + 2**-22 + 32 * 2**-25 + 257 * 2**-24
WIDTHS = (64, 128, 256)  # columns of a sketch, the residual's included
SAMPLE = 2048  # rows from which the axes come
LEAST_SAMPLE = 512  # however long the rows are
PROBE = 1024  # of these, the rows that are compared with each other to see what a filter lets through


@dataclass
class Filter:
    """What is multiplied in place of the rows, so that `z·z' >= x·x' - margin` for every pair of rows.

    With `axes` (d, p - 1) orthonormal, z = (x·axes, the length of what they leave of x): by Cauchy and
    Schwarz the product of the lengths is at least that of the remainders.
    """

    name: str
    margin: float
    dtype: torch.dtype  # of the product
    axes: torch.Tensor | None = None  # float64
    seconds: float = 0.0  # of one product of a whole tile and its scan, as measured

    def sketch(self, rows: Rows) -> Sketch:
        return Sketch(rows, self)


class Sketch:
    "The z of all rows: in float16 for a projection, else made from the rows as they are read"

    def __init__(self, rows: Rows, by: Filter):
        self.rows, self.dtype, self.z = rows, by.dtype, None
        self.recent = Recent(rows.recent.room // 2)
        if by.axes is not None:
            self.z = torch.empty(len(rows), by.axes.shape[1] + 1, dtype=torch.float16, device=rows.device)
            step = max(1, tiles.READ // rows.d)
            for a in range(0, len(rows), step):
                stop = min(a + step, len(rows))
                self.z[a:stop] = project(rows.take(slice(a, stop)), by.axes)

    def block(self, start: int, stop: int) -> torch.Tensor:
        source = self.rows.block if self.z is None else lambda a, b: self.z[a:b]
        return self.recent.get((start, stop), lambda: source(start, stop).to(self.dtype))


def project(x: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:  # (n, p) float64
    "Coordinates of each row of `x` along `axes`, and the length of its remainder."
    x = x.to(axes.dtype)
    along = x @ axes
    rest = (x * x).sum(1) - (along * along).sum(1)
    return torch.cat([along, rest.clamp_min_(0).sqrt_()[:, None]], 1)


def principal_axes(x: torch.Tensor, p: int, seed: int = 0) -> torch.Tensor:  # (d, p) float64, strongest first
    """Orthonormal axes that keep most of the rows' length: two subspace iterations from a random start.

    Not centred: the direction that all rows share becomes the first axis.
    """
    basis = torch.randn(x.shape[1], p, generator=torch.Generator().manual_seed(seed)).to(x.device)
    for _ in range(2):
        basis = torch.linalg.qr(x.T @ (x @ basis))[0]
    along = x @ basis
    try:
        turn = torch.linalg.eigh((along.T @ along).double())[1].flip(1)
    except (
        torch.linalg.LinAlgError
    ):  # too many equal eigenvalues, as of a few equal rows: then no order matters
        turn = torch.eye(basis.shape[1], dtype=torch.float64, device=x.device)
    return torch.linalg.qr(basis.double() @ turn)[0]


def make(name: str, left: Rows, right: Rows | None = None, width: int = WIDTHS[-1]) -> Filter | None:
    "The filter of that name for these rows; None for 'none' and for rows too short to project."
    if name not in FILTERS:
        raise ValueError(f"prefilter is {name!r}; give 'auto' or one of {', '.join(map(repr, FILTERS))}")
    if name == "none":
        return None
    dtype = torch.bfloat16 if name.endswith("bf16") else torch.float32
    if not name.startswith("pca"):
        return Filter(name, _bf16_margin(left.d), dtype)
    width = min(width, left.d + 1)
    axes = principal_axes(_sample(left, right), width - 1)
    return Filter(name, _margin(dtype), dtype, axes)


def _margin(dtype: torch.dtype) -> float:
    return HALF_MARGIN + (BF16_MARGIN if dtype == torch.bfloat16 else 0)


def _bf16_margin(d: int) -> float:
    "Sums over very long rows are rounded more often than the constant allows for."
    return BF16_MARGIN + max(0, d * 2**-24 - 1e-4)


def _sample(left: Rows, right: Rows | None) -> torch.Tensor:
    n = max(LEAST_SAMPLE, min(SAMPLE, 2**24 // left.d))
    if right is None:
        return left.sample(n)
    return torch.cat([left.sample(n // 2), right.sample(n // 2, seed=1)])


@dataclass
class Costs:
    "Seconds on this machine, measured on these rows"

    plain: float  # product of a tile of rows in float32, and its scan
    recheck: float  # of one pair

    @classmethod
    def measure(cls, rows: Rows, block: int) -> Costs:
        x = rows.take(slice(0, min(len(rows), block)))
        part = x[: max(1, len(x) // 4)]
        whole = (block / len(part)) * (block / len(x))
        k = np.random.default_rng(0).integers(0, len(rows), (2, 256))
        return cls(
            whole * timed(product_and_scan(part, x), x.device),
            timed(lambda: cosines(rows, rows, *k), x.device) / 256,
        )


def choose(left: Rows, right: Rows | None, limit: float, block: int, costs: Costs) -> Filter | None:
    "The filter that makes the whole search cheapest, by timing products and counting what passes; or None."
    sample = _sample(left, right)
    probe = sample[torch.randperm(len(sample), generator=torch.Generator().manual_seed(0))[:PROBE]]
    axes = principal_axes(sample, min(WIDTHS[-1], left.d // 2) - 1)
    n_tiles = len(left) * (len(left) / 2 if right is None else len(right)) / block**2
    rows = len(left) + len(right or ())
    best, least = None, 0.9 * costs.plain * n_tiles  # what gains less is not worth its preparation
    for by in _candidates(axes, left.d):
        z = (probe if by.axes is None else project(probe, by.axes)).to(by.dtype)
        product = (z @ z.T).float()
        share = len(above(product, limit - ROUNDING - by.margin, True)[0]) / (len(z) * (len(z) - 1) / 2)
        by.seconds = timed(product_and_scan(z, z), z.device) * (block / len(z)) ** 2
        prepare = (
            0 if by.axes is None else 2 * rows * by.axes.numel() * _second_per_product(costs, block, left.d)
        )
        total = n_tiles * (by.seconds + share * block**2 * costs.recheck) + prepare
        if total < least:
            best, least = by, total
    return best


def _second_per_product(costs: Costs, block: int, d: int) -> float:
    return costs.plain / (block * block * d)


def _candidates(axes: torch.Tensor, d: int) -> list[Filter]:
    "The filters worth timing: those with bfloat16 only where the machine multiplies it faster than float32."
    fast = _bf16_is_fast(axes.device)
    found = [Filter("bf16", _bf16_margin(d), torch.bfloat16)] if fast else []
    for width in (w for w in WIDTHS if w - 1 <= axes.shape[1]):
        part = axes[:, : width - 1].contiguous()
        found.append(Filter("pca", _margin(torch.float32), torch.float32, part))
        if fast:
            found.append(Filter("pca+bf16", _margin(torch.bfloat16), torch.bfloat16, part))
    return found


def _bf16_is_fast(device: torch.device) -> bool:
    x = torch.randn(512, 256, device=device)
    y = x.bfloat16()
    return timed(lambda: y @ y.T, device) < timed(lambda: x @ x.T, device)


def product_and_scan(a: torch.Tensor, b: torch.Tensor) -> Callable[[], object]:
    "What is done for a tile in which nothing is found, to be timed; memory is taken before."
    out = torch.empty(len(a), len(b), dtype=a.dtype, device=a.device)
    return lambda: above(torch.mm(a, b.T, out=out), 2.0)


def timed(
    work: Callable[[], object], device: torch.device
) -> float:  # seconds, the better of two after a first
    times = []
    for _ in range(3):
        start = perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(perf_counter() - start)
    return min(times[1:])


def cosines(left: Rows, right: Rows, i: np.ndarray, j: np.ndarray) -> np.ndarray:  # (len(i),) float32
    "Cosine of each row `i` of one side with row `j` of the other, in float32."
    step = max(64, tiles.READ // 2 // left.d)
    parts = [
        torch.linalg.vecdot(left.take(i[k : k + step]), right.take(j[k : k + step])).cpu().numpy()
        for k in range(0, len(i), step)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)
