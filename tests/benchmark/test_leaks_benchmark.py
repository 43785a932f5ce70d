import csv
import json

import pytest
from pictures import picture
from typer.testing import CliRunner

from imgclean.benchmark.__main__ import app

run = CliRunner()


@pytest.fixture
def cifar(tmp_path):
    "Six test and eight training images of 32 px in two classes; the first two test images have a copy among those."
    for split, seeds in (("test", range(6)), ("train", (0, 1, *range(20, 26)))):
        for k, seed in enumerate(seeds):
            path = tmp_path / "data" / split / "ab"[k % 2] / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(seed).resize((32, 32)).save(path)
    with open(tmp_path / "list.csv", "w", newline="") as f:
        rows = [
            ("test/a/0.png", "train/a/0.png"),
            ("test/b/1.png", "train/b/1.png"),
            ("test/a/2.png", "train/a/2.png"),
        ]
        csv.writer(f).writerows([("image", "duplicate"), *rows])
    return tmp_path


def test_leaks_prints_json(cifar):
    result = run.invoke(app, ["leaks", str(cifar / "data"), str(cifar / "list.csv"), "--num-workers", "0"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["images"] == 14 and told["groups_across"] == 2
    assert told["in_words"].startswith("2 of 6 images of test (33.3 %) have a copy in train")
    assert (
        told["listed_found"]
        == {"list.csv": [2, 3]}
        == told["with_more_candidates"]["at 0.50"]["listed_found"]
    )
    split = told["leak_free_split"]
    assert split["leak_free"]["groups_across"] == split["leak_free"]["valid_leaked"] == 0
    assert split["leak_free"]["valid"] == split["random"]["valid"] == 3
