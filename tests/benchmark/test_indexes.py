import json

import numpy as np
import pytest
from typer.testing import CliRunner

from imgclean.benchmark import indexes
from imgclean.benchmark.__main__ import app
from imgclean.benchmark.search import synthetic
from imgclean.find.pairs import Pairs
from imgclean.find.similarity import similar_pairs

run = CliRunner()


def test_recall_by_hand():
    truth = Pairs.of([1, 3, 5, 7], [0, 2, 4, 6], [0.99, 0.96, 0.92, 0.91])
    found = Pairs.of([3, 5, 9], [2, 4, 8], [0.96, 0.92, 0.9])
    assert indexes.recall(found, truth) == {"0.9": [0.5, 4], "0.95": [0.5, 2]}
    assert indexes.recall(found, Pairs.of([], [], [])) == {"0.9": [0.0, 0], "0.95": [0.0, 0]}


def test_the_pairs_of_a_sample_are_those_of_all_that_touch_it():
    x = synthetic(800, 32)
    sample = np.sort(np.random.default_rng(1).choice(800, 300, replace=False))
    every = similar_pairs(x, min_similarity=0.9, max_pairs=10**6)
    touching = {(i, j) for i, j, _ in every if i in sample or j in sample}
    found, about = indexes.by_sample(x, 300)
    assert {(i, j) for i, j, _ in found} == touching and len(touching) > 5
    assert about["extrapolated_from"]["rows"] == [150, 300] and about["pairs"] == len(touching)


@pytest.mark.parametrize("more", [[], ["--sample", "400", "--lsh", ""]])
def test_indexes_prints_json_and_leaves_no_file(tmp_path, more):
    args = ["indexes", "--n", "1500", "--d", "32", "--n-assign", "1", "--n-assign", "12", "--n-clusters", "12",
            "--queries", "20", "--folder", str(tmp_path), *more]  # fmt: skip
    found = json.loads(run.invoke(app, args).stdout)
    assert (found["n"], found["d"]) == (1500, 32) and found["command"].startswith(
        "python -m imgclean.benchmark"
    )
    one, every, *lsh = found["ways"]
    assert one["recall"]["0.9"][0] < every["recall"]["0.9"][0] == 1 and every["n_assign"] == 12
    assert not list(tmp_path.iterdir()) and len(lsh) == (not more)
    for row in lsh:
        assert row["candidates"] > 0 and 0 < row["search"]["recall_at_10"] <= 1
