import numpy as np
import pytest
import typer
from sklearn.metrics import average_precision_score

from imgclean.benchmark.scores import Truth, by_edit, curve, ranking, read_truth, score, score_ranking, within
from imgclean.dataset.items import Items
from imgclean.find.pairs import Pairs

TRUTH = Truth(("a", "a", "a", "b", "c"), ("original", "grey", "turned", "original", "original"))


def test_scores_by_hand():
    assert score({(1, 0), (4, 3)}, TRUTH) == {
        "true_pairs": 3,
        "pairs": 2,
        "precision": 0.5,
        "recall": 0.3333,
    }
    assert score(set(), TRUTH)["precision"] == 1 and score(set(), TRUTH.subset([0, 3]))["recall"] is None
    assert TRUTH.pairs() == within([[2, 0, 1]]) == {(1, 0), (2, 0), (2, 1)}
    assert TRUTH.of_originals() == {(1, 0): "grey", (2, 0): "turned"}
    assert by_edit({(1, 0), (2, 1)}, TRUTH) == {"grey": [1, 1], "turned": [0, 1]}


def test_a_ranking_by_hand():
    "A true pair, a wrong one, a true one; the third true pair is not ranked."
    found = score_ranking(Pairs.of([1, 4, 2], [0, 3, 0], [0.9, 0.8, 0.7]), TRUTH)
    assert found["average_precision"] == round((1 + 2 / 3) / 3, 4)
    assert found["recall_at_precision_99"] == 0.3333 and found["recall_of_candidates"] == 0.6667


def test_pairs_of_one_score_come_together():
    "Which of two is listed first says nothing where a tool scores them alike."
    precision, recall = curve(np.array([True, False, True]), np.array([0.5, 0.5, 0.1]), 2)
    assert precision.tolist() == [0.5, 2 / 3] and recall.tolist() == [0.5, 1]
    for order in ([True, False], [False, True]):
        assert ranking(np.array(order), np.array([3.0, 3.0]), 1)["average_precision"] == 0.5


def test_average_precision_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    scores = -np.sort(-rng.integers(0, 20, 300) / 20)
    hit = rng.random(300) < 0.3
    assert ranking(hit, scores, hit.sum())["average_precision"] == round(
        average_precision_score(hit, scores), 4
    )
    assert ranking(hit[:0], scores[:0], 3) == {"average_precision": 0, "recall_at_precision_99": 0}


def test_a_truth_is_read_by_file(shop, tmp_path):
    items = Items.from_folder(shop)
    names = [items.relpath(k) for k in range(len(items))]
    lines = [f"{name},{name[0]}" for name in reversed(names)]
    (tmp_path / "truth.csv").write_text("\n".join(["file,group", *lines]))
    assert read_truth(items, tmp_path / "truth.csv") == Truth(tuple(name[0] for name in names), ("",) * 8)
    assert not read_truth(items, None).pairs()
    (tmp_path / "truth.csv").write_text("\n".join(["file,group", *lines[2:]]))
    with pytest.raises(typer.BadParameter, match=f"'{names[-2]}' and 1 other"):
        read_truth(items, tmp_path / "truth.csv")
