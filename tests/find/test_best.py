from unittest.mock import patch

import numpy as np
import pytest
import torch
from brute import SURE, components, cosines, lower
from hypothesis import given, settings
from hypothesis import strategies as st

from imgclean.find import best
from imgclean.find.similarity import similar_pairs


@st.composite
def crowds(draw):
    "Groups of copies and near copies, in any order."
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.lists(st.integers(1, 60), min_size=1, max_size=4))
    centres = rng.normal(size=(len(sizes), 6)) + draw(st.sampled_from([0, 2]))
    x = np.repeat(centres, sizes, axis=0)
    x += draw(st.sampled_from([0, 0.01, 0.3])) * rng.normal(size=x.shape)
    return rng.permutation(x).astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(
    x=crowds(),
    limit=st.integers(1, 300),
    least=st.sampled_from([-1, 0.5, 0.9]),
    block=st.sampled_from([16, 64]),
)
def test_few_pairs_are_kept_and_no_group_is_split(x, limit, least, block):
    "The best are the best, what is left out is counted, and every threshold joins the same items."
    with patch.object(best, "FLUSH", 64):
        pairs = similar_pairs(x, min_similarity=least, max_pairs=limit, block=block)
    n, sims = len(x), lower(cosines(x))
    i, j = np.nonzero(sims >= least)
    assert (
        abs(len(pairs) + pairs.left_out - len(i)) <= ((np.abs(sims - least) < SURE) & np.isfinite(sims)).sum()
    )
    assert len(pairs) <= limit + n - 1
    all_scores = np.sort(sims[i, j])[::-1]
    np.testing.assert_allclose(pairs.score[:limit], all_scores[:limit][: len(pairs)], atol=SURE)
    for level in np.quantile(all_scores, [0, 0.5, 0.9, 1]) if len(i) else []:
        # A pair within rounding of the level may be on either side: the forest joins at least what lies above.
        coarse = components(n, *np.nonzero(sims >= level - 2 * SURE))
        fine = components(n, *np.nonzero(sims >= level + 2 * SURE))
        held = components(n, *(k[pairs.score >= level] for k in (pairs.i, pairs.j)))
        for item in range(n):
            assert held[fine[item]] == held[item], "the forest splits what the pairs join"
            assert coarse[held[item]] == coarse[item], "the forest joins what no pairs join"


@pytest.mark.parametrize("n", [None, 500])
def test_ties_are_broken_by_index_whatever_the_tiles(n):
    x = np.tile(np.eye(3), (40, 1))
    pairs = similar_pairs(x, min_similarity=0.5, n=n, max_pairs=None if n else 500, block=16)
    i, j = np.nonzero(lower(cosines(x)) > 0.5)
    expected = list(zip(i.tolist(), j.tolist(), strict=True))[:500]
    kept = [p[:2] for p in pairs]
    assert kept == expected if n else set(expected) <= set(kept)


@pytest.mark.parametrize("limit", [0.5, 0.0, -0.5, 0.123456])
def test_above_finds_at_least_the_same_in_bfloat16(limit):
    scores = torch.randn(50, 70).bfloat16()
    rows, cols = best.above(scores, limit)
    expected = (scores.float() >= limit).nonzero()
    found = set(zip(rows.tolist(), cols.tolist(), strict=True))
    assert {tuple(e) for e in expected.tolist()} <= found
    assert all(scores[r, c].float() >= limit - abs(limit) / 128 for r, c in found)
    assert best.above(scores, limit, budget=3) is None
