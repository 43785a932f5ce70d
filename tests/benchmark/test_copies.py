import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from imgclean.benchmark.__main__ import app
from imgclean.benchmark.copies import score

run = CliRunner()


def test_score_of_a_ranking_known_by_hand():
    "Angles 0, 10 and 90, 100 degrees; the second pair is no copy."
    angles = np.radians([0, 10, 90, 101])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1)
    perfect = score(vectors, ["a", "a", "b", "b"], 0.9)
    assert (perfect["precision"], perfect["recall"], perfect["average_precision"]) == (1, 1, 1)
    mixed = score(vectors, ["a", "b", "c", "c"], 0.9)  # the best pair is wrong, the second right
    assert (mixed["pairs"], mixed["precision"], mixed["recall"], mixed["average_precision"]) == (
        2,
        0.5,
        1,
        0.5,
    )
    assert mixed["recall_at_precision_99"] == 0


def test_copies_prints_json(shop, tmp_path):
    rows = [("cat/a.jpg", 1), ("cat/b.jpg", 2), ("cat/c.jpg", 1), ("cat/d.jpg", 3), ("dog/a.jpg", 1), ("dog/b.jpg", 4),
            ("dog/c.jpg", 5), ("dog/d.jpg", 4)]  # fmt: skip
    with open(tmp_path / "truth.csv", "w", newline="") as f:
        csv.writer(f).writerows([("file", "group"), *rows])
    result = run.invoke(app, ["copies", str(shop), str(tmp_path / "truth.csv"), "--pool-dim", "2"])
    found = json.loads(result.stdout)
    assert (
        found["images"] == 8 and found["rows"][0]["true_pairs"] == 4 and found["rows"][0]["d"] == 2 * 1280 * 4
    )
    assert found["rows"][0]["recall"] == 1 and found["command"].startswith("python -m imgclean.benchmark")


@pytest.mark.parametrize("line", ["cat/a.jpg,1"])
def test_a_truth_that_lacks_files_is_refused(shop, tmp_path, line):
    (tmp_path / "truth.csv").write_text(f"file,group\n{line}\n")
    result = run.invoke(app, ["copies", str(shop), str(tmp_path / "truth.csv")])
    assert result.exit_code == 2 and "cat/b.jpg" in result.stderr
