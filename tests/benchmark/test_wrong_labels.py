import csv
import json

import numpy as np
import pytest
from pictures import write_pictures
from typer.testing import CliRunner

from imgclean.benchmark.__main__ import app
from imgclean.benchmark.labels import PLANTED, RANKINGS, Neighbours, all_scores, differences, found, plant
from imgclean.dataset.items import Items

CLASSES = ["cat", "dog"]


def test_labels_are_planted_where_they_are_said_to_be():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, 500)
    p = 0.02 + 0.92 * np.eye(4)[np.where(rng.random(500) < 0.2, (true + 1) % 4, true)]  # 0 is taken for 1, …
    given = np.eye(4, dtype=bool)[true]
    before = given.copy()
    changed, wrong = plant(p, given, seed=3)
    assert (given == before).all() and wrong.sum() == PLANTED
    assert ((changed != given).any(axis=1) == wrong).all() and (changed.sum(axis=1) == 1).all()
    assert (changed.argmax(axis=1)[wrong] == (true[wrong] + 1) % 4).all()
    assert (plant(p, given, seed=4)[1] != wrong).any()


def test_counts_and_differences():
    wrong = np.array([True, False, True, False, True])
    order, other = np.array([0, 1, 2, 3, 4]), np.array([4, 3, 2, 1, 0])
    assert found(order, wrong, (1, 3, 5)) == {"in_1": 1, "in_3": 2, "in_5": 3}
    assert differences(order, other, wrong, 3) == {"looked_at": 3, "only_combined": 1, "only_cleanlab": 1}


@pytest.fixture
def pictures(tmp_path):
    "Twelve training and twelve test images; test/cat/0 is a dog that people call one."
    names = [f"{split}/{label}/{k}.png" for split in ("test", "train") for label in CLASSES for k in range(6)]
    write_pictures(tmp_path / "set", names, range(24))
    return tmp_path / "set"


def test_an_image_is_no_neighbour_of_its_own(pictures):
    items = Items.from_folder(pictures)
    names = [items.relpath(k) for k in range(12)]
    near = Neighbours(items, names, CLASSES, 64, None)
    assert near.index.shape == near.cosine.shape == (12, 10)
    assert not (near.index == near.rows[:, None]).any() and len(near.column) == 24
    given = np.eye(2, dtype=bool)[[0] * 6 + [1] * 6]
    assert not np.allclose(near.shares(given), near.shares(~given))


def test_the_command_reports_every_ranking(pictures, tmp_path):
    pytest.importorskip("cleanlab", reason="cleanlab is not installed; pip install -e .[benchmark]")
    names = [f"test/{label}/{k}.png" for label in CLASSES for k in range(6)]
    probs = np.array([[0.1, 0.9], *[[0.8, 0.2]] * 5, *[[0.3, 0.7]] * 6], dtype=np.float16)
    np.savez(tmp_path / "probs.npz", paths=names, probs=probs, classes=CLASSES)
    with (tmp_path / "review.csv").open("w", newline="") as f:
        csv.writer(f).writerows([("image", "votes_given"), (names[0], 1), (names[7], 4)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("imgclean.benchmark.labels.PLANTED", 2)
        patch.setattr("imgclean.benchmark.labels.RUNS", 2)
        args = [
            "labels",
            str(pictures),
            str(tmp_path / "probs.npz"),
            str(tmp_path / "review.csv"),
            "--size",
            "64",
        ]
        run = CliRunner().invoke(app, args)
    assert run.exit_code == 0, run.output
    result = json.loads(run.stdout)
    assert (result["images"], result["judged"], result["wrong"]) == (12, 2, 1)
    assert result["found"]["self-confidence"]["in_100"] == 1
    assert {*RANKINGS, "cleanlab self-confidence", "cleanlab normalized-margin"} <= set(result["found"])
    assert result["planted"]["combined"]["in_100"] == 2 and result["neighbours"]["among"] == 24


def test_ours_and_cleanlabs_self_confidence_are_one():
    pytest.importorskip("cleanlab", reason="cleanlab is not installed; pip install -e .[benchmark]")
    rng = np.random.default_rng(0)
    p, given = rng.dirichlet(np.ones(3), 50), np.eye(3, dtype=bool)[rng.integers(0, 3, 50)]
    scores = all_scores(p, given, rng.dirichlet(np.ones(3), 50))
    np.testing.assert_allclose(scores["self-confidence"], scores["cleanlab self-confidence"])
