import numpy as np
import pytest

from imgclean.find.pairs import Pairs


def test_pairs_are_ordered_best_first_with_ties_by_index():
    pairs = Pairs.of([0, 5, 3, 2], [4, 1, 0, 7], [0.5, 0.9, 0.5, 0.5])
    assert list(pairs) == [(5, 1, pytest.approx(0.9)), (3, 0, 0.5), (4, 0, 0.5), (7, 2, 0.5)]
    assert (pairs.i > pairs.j).all() and len(pairs) == 4
    assert list(pairs.top(2)) == list(pairs)[:2]


def test_any_order_of_the_same_pairs_is_the_same():
    rng = np.random.default_rng(0)
    i, j = rng.integers(0, 50, 200), rng.integers(50, 99, 200)
    score = rng.integers(0, 5, 200) / 5
    order = rng.permutation(200)
    assert list(Pairs.of(i, j, score)) == list(Pairs.of(j[order], i[order], score[order]))


def test_wrong_pairs_are_refused():
    with pytest.raises(ValueError, match="with itself"):
        Pairs.of([1, 2], [0, 2], [1, 1])
    with pytest.raises(ValueError, match="2, 1 and 2"):
        Pairs.of([1, 2], [0], [1, 1])


def test_no_pairs():
    assert list(Pairs.of([], [], [])) == [] and repr(Pairs.of([], [], [])) == "Pairs(0)"
