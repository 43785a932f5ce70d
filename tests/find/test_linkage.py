from itertools import zip_longest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from imgclean.find.linkage import connected, stars, weakest_links
from imgclean.find.pairs import Pairs
from imgclean.find.similarity import similar_pairs


@st.composite
def some_pairs(draw, most=14):
    n = draw(st.integers(2, most))
    every = [(i, j) for i in range(n) for j in range(i)]
    chosen = draw(st.lists(st.sampled_from(every), unique=True, min_size=1))
    scores = draw(st.lists(st.integers(50, 60), min_size=len(chosen), max_size=len(chosen)))
    return Pairs.of(*np.array(chosen).T, np.array(scores) / 64)


def slow_stars(pairs, verified=()):
    "Pair by pair; a centre is looked for among all members every time."
    edges = {frozenset((i, j)) for i, j, _ in pairs}
    groups = [{k} for k in {*pairs.i.tolist(), *pairs.j.tolist()}]
    for must in (True, False):
        for (i, j, _), sure in zip_longest(pairs, verified):
            a, b = (next(g for g in groups if k in g) for k in (i, j))
            both = a | b
            centred = any(all(frozenset((c, k)) in edges for k in both if k != c) for c in both)
            if a is not b and (sure if must else centred):
                groups = [g for g in groups if g is not a and g is not b] + [both]
    return sorted(sorted(g) for g in groups if len(g) > 1)


@settings(deadline=None, max_examples=100)
@given(some_pairs(), st.randoms(use_true_random=False))
def test_stars_equal_trying_every_centre(pairs, random):
    assert stars(pairs) == slow_stars(pairs)
    verified = np.array([random.random() < 0.3 for _ in range(len(pairs))])
    assert stars(pairs, verified=verified) == slow_stars(pairs, verified)


@settings(deadline=None, max_examples=50)
@given(some_pairs())
def test_each_group_has_a_centre_and_lies_in_one_component(pairs):
    edges = {frozenset((i, j)) for i, j, _ in pairs}
    for group in stars(pairs):
        assert any(all(c == k or frozenset((c, k)) in edges for k in group) for c in group)
        assert any(set(group) <= set(whole) for whole in connected(pairs))


@settings(deadline=None, max_examples=50)
@given(some_pairs())
def test_connected_equals_scipys_components(pairs):
    n = int(pairs.i.max()) + 1
    label = connected_components(coo_array((np.ones(len(pairs)), (pairs.i, pairs.j)), shape=(n, n)), False)[1]
    expected = [np.flatnonzero(label == c).tolist() for c in range(label.max() + 1)]
    assert connected(pairs) == sorted(ks for ks in expected if len(ks) > 1)


@settings(deadline=None, max_examples=50)
@given(some_pairs())
def test_weakest_link_is_the_level_up_to_which_a_group_stays_connected(pairs):
    groups = connected(pairs)
    for group, weakest in zip(groups, weakest_links(pairs, groups), strict=True):
        at = [set(g) for g in connected(pairs.above(weakest))]
        above = [set(g) for g in connected(pairs.above(np.nextafter(np.float32(weakest), np.float32(2))))]
        assert any(set(group) <= g for g in at) and not any(set(group) <= g for g in above)


def test_a_chain_of_fifty_is_no_group_and_a_star_of_fifty_is_one():
    chain = Pairs.of(np.arange(1, 50), np.arange(49), np.linspace(0.8, 0.95, 49))
    assert connected(chain) == [list(range(50))]
    assert sum(map(len, stars(chain))) == 50 and max(map(len, stars(chain))) == 3
    star = Pairs.of(np.arange(1, 50), np.zeros(49), np.linspace(0.8, 0.95, 49))
    assert stars(star) == [list(range(50))]


def test_frames_of_a_film_fall_apart_into_scenes():
    "Each frame is like the three on both sides."
    angles = np.arange(60) * 0.1
    x = np.stack([np.cos(angles), np.sin(angles)], 1)
    pairs = similar_pairs(x, min_similarity=float(np.cos(0.35)))
    assert len(connected(pairs)) == 1 and max(map(len, stars(pairs))) == 7


def test_verified_pairs_join_a_chain_and_weak_ones_do_not():
    chain = Pairs.of([1, 2, 3], [0, 1, 2], [0.9, 0.8, 0.7])
    assert stars(chain) == [[0, 1, 2]]
    assert stars(chain, verified=np.ones(3, dtype=bool)) == [[0, 1, 2, 3]]
    assert stars(chain, verified=chain.score < 0.75) == [[0, 1], [2, 3]]
    longer = Pairs.of([1, 2, 3, 4], [0, 1, 2, 3], [0.9, 0.8, 0.7, 0.6])
    assert stars(longer, verified=longer.score > 0.65) == [[0, 1, 2, 3]]
    assert stars(longer, verified=longer.score < 0.75) == [[0, 1], [2, 3, 4]]
    pair = Pairs.of(
        [1, 2, 3], [0, 0, 0], [0.9, 0.8, 0.7]
    )  # 0 is alike to what is verified and to what is not
    assert stars(pair, verified=pair.score < 0.75) == [[0, 1, 2, 3]]
    with pytest.raises(ValueError, match=r"shape \(2,\) and dtype bool; give one bool for each of 3"):
        stars(chain, verified=np.ones(2, dtype=bool))


def test_ten_thousand_equal_images_are_one_group_and_few_missing_pairs_are_computed():
    n, asked = 10_000, 0
    x = np.ones((n, 8), dtype=np.float32) / np.sqrt(8)

    def scores(k, others):
        nonlocal asked
        asked += len(others)
        return (x[others] @ x[k]).tolist()

    pairs = similar_pairs(x, min_similarity=0.9)
    assert pairs.left_out and stars(pairs, scores=scores) == [list(range(n))] == stars(pairs)
    assert asked < 10 * n


def test_what_was_left_out_is_computed_and_what_is_complete_is_not():
    "The chain's middle pair was left out: whether it is one group, the images tell."
    pairs = Pairs.of([1, 3, 2], [0, 2, 1], [0.9, 0.9, 0.8], left_out=3)
    assert stars(pairs) == [[0, 1, 2, 3]]
    assert stars(pairs, scores=lambda k, others: [0.85] * len(others)) == [[0, 1, 2, 3]]
    assert stars(pairs, scores=lambda k, others: [0.5] * len(others)) == [[0, 1], [2, 3]]
    assert stars(pairs, scores=lambda k, others: [0.85] * len(others), complete=True) == [[0, 1], [2, 3]]


@pytest.mark.parametrize("left_out", [0, 1])
def test_the_original_that_comes_last_becomes_the_centre(left_out):
    def scores(k, others):  # pairs that were left out are not alike
        return [0.5] * len(others)

    copies = [(3, 0, 0.99), (2, 1, 0.98), (3, 2, 0.97)]  # a chain, which is refused at first
    original = [(4, 0, 0.9), (4, 1, 0.9), (4, 2, 0.9), (4, 3, 0.9), (5, 4, 0.8)]
    i, j, score = zip(*copies, *original, strict=True)
    assert stars(Pairs.of(i, j, score, left_out), scores=scores) == [[0, 1, 2, 3, 4, 5]]


def test_a_crowd_of_copies_in_a_chain_of_crowds():
    "Left out or not, crowds of equal images are the images that they are copies of."
    angles = np.repeat(np.arange(6) * 0.3, 40)
    x = np.stack([np.cos(angles), np.sin(angles)], 1)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    few, every = (similar_pairs(x, min_similarity=np.cos(0.31), max_pairs=m) for m in (100, 10**6))
    assert few.left_out and not every.left_out
    for pairs in (few, every):
        found = stars(pairs, scores=lambda k, others: x[others] @ x[k])
        assert max(map(len, found)) <= 120 and all(len(g) % 40 == 0 for g in found)
        assert sum(map(len, found)) == 240


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 60), st.integers(0, 2**32 - 1), st.sampled_from([1, 5, 40]))
def test_each_group_has_a_centre_whatever_was_left_out(n, seed, max_pairs):
    rng = np.random.default_rng(seed)
    angles = rng.choice([0.0, 0.2, 0.4, 0.6, 2.0], n) + rng.normal(0, 0.05, n)
    x = np.stack([np.cos(angles), np.sin(angles)], 1)
    cosine = x @ x.T
    pairs = similar_pairs(x, min_similarity=0.97, max_pairs=max_pairs)
    groups = stars(pairs, scores=lambda k, others: cosine[k, others])
    for group in groups:
        assert (cosine[np.ix_(group, group)].min(1) >= float(pairs.score[-1]) - 1e-5).any()
    left = {*pairs.i.tolist(), *pairs.j.tolist()} - {k for g in groups for k in g}
    for i, j, _ in pairs:  # nobody is alone whose neighbour is
        assert not {i, j} <= left


@pytest.mark.parametrize("alike", [0.9, 0.5])
def test_what_joins_a_verified_group_where_pairs_were_left_out_is_computed(alike):
    pairs = Pairs.of([1, 2, 3], [0, 1, 2], [0.9, 0.8, 0.7], left_out=3)
    groups = stars(pairs, verified=pairs.score > 0.75, scores=lambda k, others: [alike] * len(others))
    assert groups == ([[0, 1, 2, 3]] if alike > 0.7 else [[0, 1, 2]])


def test_no_pairs_no_groups():
    assert stars(Pairs.of([], [], [])) == connected(Pairs.of([], [], [])) == []
