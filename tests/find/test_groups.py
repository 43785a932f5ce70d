import pickle

import numpy as np
import pytest

from imgclean.find.groups import Group, group_pairs
from imgclean.find.pairs import Pairs


def size(width, height, n_bytes):
    return {"width": width, "height": height, "bytes": n_bytes}


def test_components_best_first_keeper_first():
    pairs = Pairs.of([1, 2, 5, 8], [0, 1, 4, 7], [0.90, 0.95, 0.99, 0.97])
    facts = {k: size(10, 10, 100) for k in range(9)} | {2: size(20, 20, 50), 5: size(10, 10, 300)}
    groups = group_pairs(pairs, facts.__getitem__)
    assert groups == [(5, 4), (7, 8), (2, 0, 1)]
    assert [g.similarity for g in groups] == pytest.approx([0.99, 0.97, 0.90])
    assert [g.reason for g in groups] == [
        "as many pixels, largest file (300 B)", "same size, first in the dataset", "most pixels (20×20)"
    ]  # fmt: skip


def test_similarity_is_that_of_the_link_that_holds_the_group_together():
    triangle = Pairs.of([1, 2, 2], [0, 1, 0], [0.99, 0.98, 0.5])
    assert group_pairs(triangle, lambda k: size(1, 1, 1))[0].similarity == pytest.approx(0.98)


def test_scores_are_to_the_keeper():
    def scores(keeper, rest):
        return [keeper * 10 + k for k in rest]

    facts = {0: size(1, 1, 1), 1: size(1, 1, 1), 2: size(2, 2, 2)}
    (group,) = group_pairs(Pairs.of([1, 2], [0, 1], [0.9, 0.9]), facts.__getitem__, scores)
    assert group == (2, 0, 1) and group.scores == (1.0, 20, 21)


def test_a_chain_is_several_groups_but_where_it_is_verified():
    pairs = Pairs.of(np.arange(1, 50), np.arange(49), np.linspace(0.8, 0.95, 49))
    groups = group_pairs(pairs, lambda k: size(1, 1, 1))
    assert max(map(len, groups)) == 3 and sorted(k for g in groups for k in g) == list(range(50))
    assert [g.similarity for g in groups] == sorted((g.similarity for g in groups), reverse=True)
    (whole,) = group_pairs(pairs, lambda k: size(1, 1, 1), verified=pairs.score > 0)
    assert sorted(whole) == list(range(50)) and whole.similarity == pytest.approx(0.8)


def test_similarity_is_within_the_group():
    "0 and 3 are more alike than 2 is to 0, and 3 went elsewhere."
    pairs = Pairs.of([1, 4, 3, 2], [0, 3, 0, 0], [0.99, 0.98, 0.9, 0.8])
    groups = group_pairs(pairs, lambda k: size(1, 1, 1))
    assert groups == [(3, 4), (0, 1, 2)] and groups[1].similarity == pytest.approx(0.8)


def test_the_keeper_follows_policy_and_protection():
    pairs = Pairs.of([1, 2, 5], [0, 1, 4], [0.9, 0.8, 0.7])
    facts = {k: size(10 + k, 10, 100 - k) for k in range(6)}
    groups = group_pairs(pairs, facts.__getitem__, keep="largest", protected={1, 2, 9})
    assert groups == [(1, 0, 2), (4, 5)] and groups[0].protected == (1, 2) and groups[1].protected == ()
    assert [g.reason for g in groups] == ["protected; largest file (99 B)", "largest file (96 B)"]
    with pytest.raises(ValueError, match="keep is 'smallest'"):
        group_pairs(Pairs.of([], [], []), facts.__getitem__, keep="smallest")


def test_a_group_is_a_tuple_and_survives_pickling():
    group = Group([3, 1], 0.9, (1.0, 0.9), "largest", protected=[3, 8])
    assert group == (3, 1) and isinstance(group, tuple)
    again = pickle.loads(pickle.dumps(group))
    assert again.protected == (3,)
    assert again == group and (again.similarity, again.scores, again.reason) == (0.9, (1.0, 0.9), "largest")
