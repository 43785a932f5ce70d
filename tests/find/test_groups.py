import pickle

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
        "same pixels, largest file (300 B)", "same size, first in the dataset", "most pixels (20×20)"
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


def test_a_group_is_a_tuple_and_survives_pickling():
    group = Group([3, 1], 0.9, (1.0, 0.9), "largest")
    assert group == (3, 1) and isinstance(group, tuple)
    again = pickle.loads(pickle.dumps(group))
    assert again == group and (again.similarity, again.scores, again.reason) == (0.9, (1.0, 0.9), "largest")
