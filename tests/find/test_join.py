import io
from functools import reduce
from unittest.mock import patch

import numpy as np
import pytest
import torch
from brute import check_pairs, cosines, lower

from imgclean.find import filters, join
from imgclean.find.best import Best
from imgclean.find.join import Join
from imgclean.find.pairs import Pairs
from imgclean.find.similarity import similar_pairs
from imgclean.find.tiles import Rows, tiles


def vectors(n, d, seed=0):
    "Rows that lie near a plane of 6 dimensions, so that 7 axes catch nearly all of them."
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)) @ np.random.default_rng(9).normal(size=(6, d)) + 0.05 * rng.normal(
        size=(n, d)
    )
    return x.astype(np.float32)


def joined(x, least, costs, block=32):
    "A join with an automatic filter that is chosen at once and believes the given costs."
    by = filters.make("pca", Rows(x), width=8)
    with (
        patch.multiple(join, PAYS=0, SMALL=0),
        patch.object(filters, "choose", lambda *args: by),
        patch.object(filters.Costs, "measure", lambda *args: costs),
    ):
        made, keep = Join(Rows(x), block=block), Best(len(x), 10**6, least, forest=True)
        made.run(keep)
    check_pairs(keep.pairs(), lower(cosines(x)), least)
    return made.stats


def test_a_filter_that_lets_much_through_is_set_aside():
    "At .3 nearly all pass; the few tries cost less than a fifth of the tiles."
    stats = joined(vectors(600, 40), 0.3, filters.Costs(plain=1.0, recheck=0.05))
    assert stats["full"] == stats["tiles"] and 3 <= stats["failed"] < stats["tiles"] / 5


def test_a_filter_that_lets_little_through_is_kept():
    stats = joined(vectors(600, 40), 0.95, filters.Costs(plain=1.0, recheck=0.01))
    assert stats["full"] == stats["failed"] == 0 and stats["tiles"] > 100


def test_a_crowd_of_copies_does_not_end_the_filter_for_the_others():
    x = vectors(640, 40)
    x[:160] = x[0]
    stats = joined(x, 0.95, filters.Costs(plain=1.0, recheck=0.01))
    assert stats["failed"] >= 3 and stats["full"] < stats["tiles"] / 2


def test_the_users_precision_is_left_as_it_was():
    torch.set_float32_matmul_precision("medium")
    try:
        with join.full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_tiles_mapped_one_by_one_and_merged_are_the_whole():
    x = vectors(100, 12)
    rows = Rows(x)
    parts = [
        join.tile_pairs(rows.block(t.a, t.a_end), rows.block(t.b, t.b_end), t, 0.8) for t in tiles(len(x), 16)
    ]
    merged = reduce(Pairs.merge, parts)
    check_pairs(merged, lower(cosines(x)), 0.8)
    whole = similar_pairs(x, min_similarity=0.8, max_pairs=10**6)
    assert {p[:2] for p in merged} == {p[:2] for p in whole} and len(merged) > 100


@pytest.mark.parametrize("m", [None, 75])
def test_how_far_it_is_reaches_the_end(m):
    bars = []

    class Bar(join.tqdm):
        def __init__(self, *args, **kwargs):
            # Not the bar's own word for it: what is closed counts as disabled, and here is no terminal.
            self.wanted = not kwargs.pop("disable")
            super().__init__(*args, **kwargs, file=io.StringIO())
            bars.append(self)

    left, right = Rows(vectors(200, 20)), None if m is None else Rows(vectors(m, 20))
    with patch.object(join, "tqdm", Bar):
        for small, progress in ((10, True), (10, False), (join.SMALL, True)):
            made = Join(left, right, block=32)
            with patch.object(join, "SMALL", small):
                made.run(Best(200 + (m or 0), 10, 0.9, forest=True, shift=m or 0), progress)
    shown, *hidden = bars
    assert shown.n == shown.total == made.stats["tiles"] > 10 and shown.delay == join.SHOWN
    assert shown.wanted
    assert not any(bar.wanted for bar in hidden)  # nobody asked for one, or it is too short to need one
