from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


some_pairs = st.dictionaries(
    st.tuples(st.integers(1, 6), st.integers(0, 5)).filter(lambda p: p[0] > p[1]),
    st.sampled_from([-1, 0.25, 0.5, 0.75]),
).map(lambda found: Pairs.of([i for i, _ in found], [j for _, j in found], list(found.values()), len(found)))


@settings(deadline=None)
@given(some_pairs, some_pairs, some_pairs)
def test_merge_keeps_the_better_score_and_is_associative(a, b, c):
    merged = a.merge(b)
    best = {}
    for i, j, score in [*a, *b]:
        best[i, j] = max(score, best.get((i, j), -9))
    assert {(i, j): score for i, j, score in merged} == best and len(merged) == len(best)
    assert list(merged) == list(Pairs.of(merged.i, merged.j, merged.score))
    assert merged.left_out == a.left_out + b.left_out
    assert list(a.merge(b).merge(c)) == list(a.merge(b.merge(c)))


def test_above_includes_the_threshold():
    pairs = Pairs.of([1, 2, 3], [0, 1, 2], [0.9, 0.85, 0.1])
    assert [p[:2] for p in pairs.above(0.85)] == [(1, 0), (2, 1)]
    assert len(pairs.above(0.95)) == 0 and len(pairs.above(-1)) == 3


def test_a_table_and_back():
    pairs = Pairs.of([1, 2], [0, 1], [0.9, 0.8], left_out=7)
    table = pairs.df()
    assert list(table.columns) == ["i", "j", "score"] and table.dtypes.astype(str).tolist() == [
        "int64", "int64", "float32",
    ]  # fmt: skip
    again = Pairs.from_df(table.iloc[::-1])
    assert list(again) == list(pairs) and Pairs.from_df(table).left_out == 7
    with pytest.raises(ValueError, match="no column 'score'"):
        Pairs.from_df(table.drop(columns="score"))


def test_parquet_and_back(tmp_path):
    "Where nothing reads parquet, the sentence that says what to install."
    pairs, path = Pairs.of([1, 2], [0, 1], [0.9, 0.8], left_out=7), tmp_path / "pairs.parquet"
    if find_spec("pyarrow") or find_spec("fastparquet"):
        pairs.to_parquet(path)
        again = Pairs.from_parquet(path)
        assert list(again) == list(pairs) and again.left_out == 7
    else:
        for call in (pairs.to_parquet, Pairs.from_parquet):
            with pytest.raises(ImportError, match="pip install pyarrow"):
                call(path)


def test_parquet_is_left_to_pandas(tmp_path, monkeypatch):
    monkeypatch.setattr("imgclean.find.pairs.find_spec", lambda name: True)
    monkeypatch.setattr(pd.DataFrame, "to_parquet", pd.DataFrame.to_pickle)
    monkeypatch.setattr(pd, "read_parquet", pd.read_pickle)
    pairs = Pairs.of([1, 2], [0, 1], [0.9, 0.8], left_out=7)
    pairs.to_parquet(tmp_path / "pairs")
    again = Pairs.from_parquet(tmp_path / "pairs")
    assert list(again) == list(pairs) and again.left_out == 7
