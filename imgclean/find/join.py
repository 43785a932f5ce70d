"""The join of one or two sets of rows: every tile through a filter or in full, what is found to a keeper."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter

import numpy as np
import torch
from tqdm.auto import tqdm

from . import filters
from .best import above
from .filters import Filter, Sketch
from .pairs import Pairs
from .tiles import ROUNDING, Rows, Tile, n_tiles, same_width, tiles

log = logging.getLogger(__name__)
SMALL = 10**11  # products of two numbers, which take about a second: fewer are not worth a look at filters
PAYS = 20  # times what choosing a filter takes, the search without one must take
CHOOSING = 0.2  # seconds that choosing a filter takes, before it was measured
TRIES = 3  # tiles in a row that a filter may fail before it is set aside for a while
SHOWN = 5  # seconds after which a join that goes on shows how far it is, where it may take as long


class Join:
    """Every pair of rows of `left`, or of `left` and `right`, shown to a keeper that says what matters.

    A tile is multiplied by the filter first, and in full where more passes than is worth comparing one by
    one. A filter that keeps failing is set aside for ever more tiles, so it costs no more than it could save.
    """

    def __init__(
        self, left: Rows, right: Rows | None = None, *, prefilter: str = "auto", block: int | None = None
    ):
        if right is not None:
            same_width(left, right)
        self.left, self.right, self.prefilter = left, right, prefilter
        self.block = block or default_block(left)
        self.other = left if right is None else right
        self.n_pairs = len(left) * (len(left) / 2 if right is None else len(right))
        self.filter: Filter | None = None
        self.choosing, self.last_limit = CHOOSING, -np.inf
        self.costs: filters.Costs | None = None
        self.buffers: dict[torch.dtype, torch.Tensor] = {}
        self.failed = self.rest = 0  # tiles that the filter failed in a row; tiles for which it rests
        self.stats = {"tiles": 0, "full": 0, "failed": 0, "rechecked": 0}
        self.waiting: list[tuple[np.ndarray, np.ndarray]] = []  # rows of both sides, for the re-check
        self.n_waiting = 0
        if prefilter != "auto" and len(left) and len(self.other):
            self._use(filters.make(prefilter, left, right))

    def run(self, keep, progress: bool = False) -> None:
        "Shows all tiles to `keep`, a `Best` or `Nearest`."
        m = None if self.right is None else len(self.right)
        work = tiles(len(self.left), self.block, m)
        total = n_tiles(len(self.left), self.block, m)
        bar = progress_bar(progress, self.n_pairs * self.left.d, total=total, unit="tile")
        with full_precision(), bar:
            for tile in work:
                bar.update()
                self.stats["tiles"] += 1
                self._choose(keep, tile)
                if not (self.filter and self._filtered(tile, keep)):
                    self._full(tile, keep)
            self._recheck(keep)
        log.info("joined %d and %d rows: %s, %s", len(self.left), len(self.other), self.name, self.stats)

    @property
    def name(self) -> str:
        "The filter in words."
        by = self.filter
        if by is None:
            return "none"
        return by.name if by.axes is None else f"{by.name}, {by.axes.shape[1] + 1} columns"

    def _choose(self, keep, tile: Tile) -> None:
        "Looks for a filter as soon as there is a limit to filter by, and again where the limit has risen since."
        if self.filter or self.prefilter != "auto" or self.n_pairs * self.left.d < SMALL:
            return
        if self.seconds_left() < PAYS * self.choosing:
            return
        limit = float(np.median(keep.limit_of(tile)))
        if limit > max(-1, self.last_limit + 0.01):
            start, self.last_limit = perf_counter(), limit
            self._use(filters.choose(self.left, self.right, limit, self.block, self.costs))
            self.choosing = perf_counter() - start

    def seconds_left(self) -> float:
        "How long the tiles to come would take without a filter."
        if not self.costs:
            self.costs = filters.Costs.measure(self.left, self.block)
        return self.costs.plain * (self.n_pairs / self.block**2 - self.stats["tiles"])

    def _use(self, by: Filter | None) -> None:
        self.filter = by
        if by is not None:
            self.sketches = [by.sketch(self.left)]
            self.sketches.append(self.sketches[0] if self.right is None else by.sketch(self.right))

    def _full(self, tile: Tile, keep) -> None:
        self.stats["full"] += 1
        keep.add_tile(tile, self._product(self.left, self.other, tile))

    def _filtered(self, tile: Tile, keep) -> bool:
        "Whether the filter has dealt with the tile."
        if self.rest:
            self.rest -= 1
            return False
        budget = np.inf
        if self.prefilter == "auto":  # what passes may cost half of what the full tile would
            size = (tile.a_end - tile.a) * (tile.b_end - tile.b) / self.block**2
            budget = size * self.costs.plain / 2 / self.costs.recheck
        found = keep.wants(tile, self._product(*self.sketches, tile), self.filter.margin, budget)
        if found is None:
            self.stats["failed"] += 1
            self.failed += 1
            if self.failed >= TRIES:
                self.rest = min(2**self.failed, 64)
            return False
        self.failed = 0
        if len(found[0]):
            self.waiting.append((found[0].cpu().numpy() + tile.a, found[1].cpu().numpy() + tile.b))
            self.n_waiting += len(found[0])
        if self.n_waiting > keep.chunk:
            self._recheck(keep)
        return True

    def _recheck(self, keep) -> None:
        "The candidates of the filter, in float32."
        if self.waiting:
            i, j = (np.concatenate(part) for part in zip(*self.waiting, strict=True))
            self.waiting, self.n_waiting = [], 0
            self.stats["rechecked"] += len(i)
            keep.add(i, j, filters.cosines(self.left, self.other, i, j))

    def _product(self, left: Rows | Sketch, right: Rows | Sketch, tile: Tile) -> torch.Tensor:
        a, b = left.block(tile.a, tile.a_end), right.block(tile.b, tile.b_end)
        if a.dtype not in self.buffers:
            self.buffers[a.dtype] = torch.empty(self.block**2, dtype=a.dtype, device=a.device)
        return product(a, b, self.buffers[a.dtype][: len(a) * len(b)].view(len(a), len(b)))


def progress_bar(progress: bool, products: float, of: Iterable | None = None, **settings) -> tqdm:
    "How far a comparison of so many products of two numbers is; a notebook makes widgets for it, so none for a short one."
    shown = progress and products > SHOWN * SMALL
    return tqdm(of, desc="comparing", delay=SHOWN, disable=None if shown else True, **settings)


def product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    "Dot products of the rows of two blocks: what is computed for each tile."
    return torch.mm(a, b.T, out=out)


def tile_pairs(
    a: torch.Tensor,  # (tile.a_end - tile.a, d) float32, rows of length 1
    b: torch.Tensor,  # (tile.b_end - tile.b, d)
    tile: Tile,  # where they stand in a symmetric matrix
    min_similarity: float,
) -> Pairs:
    """The pairs of one tile that reach `min_similarity`, a pure function: what a cluster maps over `tiles`.

    `Pairs.merge` of all tiles is what `similar_pairs` finds.
    """
    with full_precision():
        scores = product(a, b)
    rows, cols = above(scores, min_similarity - ROUNDING, tile.diagonal)
    found = scores[rows, cols].clamp(min_similarity, 1)
    return Pairs.of((rows + tile.a).cpu(), (cols + tile.b).cpu(), found.cpu())


def default_block(rows: Rows) -> int:
    "Rows of a tile: a tile should fit the cache, and feed all cores."
    if rows.device.type == "cuda":
        return 8192
    return 1024 if torch.get_num_threads() <= 2 else 2048


@contextmanager
def full_precision() -> Iterator[None]:
    "Products of float32 in float32, and sums of bfloat16 in float32, whatever the user has set for training."
    before = torch.get_float32_matmul_precision()
    cuda = torch.backends.cuda.matmul
    reduced = cuda.allow_bf16_reduced_precision_reduction
    torch.set_float32_matmul_precision("highest")
    cuda.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        cuda.allow_bf16_reduced_precision_reduction = reduced
