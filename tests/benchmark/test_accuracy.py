import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from imgclean.benchmark.__main__ import app
from imgclean.benchmark.peers import Answer
from imgclean.find.pairs import Pairs

run = CliRunner()


@pytest.fixture
def truth(sample, tmp_path):
    "A csv of what was planted in the sample dataset."
    copies = {f: p for p in sample.planted for f in p.files if len(p.files) > 1}
    names = [p.relative_to(sample.path).as_posix() for p in sample.path.rglob("*.jpg")]
    with open(tmp_path / "truth.csv", "w", newline="") as f:
        rows = csv.writer(f)
        rows.writerow(["file", "group", "edit"])
        for name in names:
            group = copies[name].files[0] if name in copies else name
            rows.writerow([name, group, copies[name].what if name.endswith("_copy.jpg") else "original"])
    return tmp_path / "truth.csv"


def test_accuracy_of_the_sample_and_of_a_peer(sample, truth, tmp_path, monkeypatch):
    def one_wrong_pair(items):
        i = len(items) - 1  # a rocket; the first one is a cat
        return {"guess": Answer({(i, 0)}, Pairs.of([i], [0], [0.5]), 1.0)}

    monkeypatch.setattr("imgclean.benchmark.accuracy.ask_peers", one_wrong_pair)
    monkeypatch.setattr("imgclean.benchmark.accuracy.PACKAGES", ("numpy",))
    wanted = ["--peers", "--table", str(tmp_path / "table.md"), "--picture", str(tmp_path / "curves.png")]
    found = json.loads(run.invoke(app, ["accuracy", str(sample.path), str(truth), *wanted]).stdout)
    ours, guess = found["ours"], found["peers"]["guess"]
    assert ours["true_pairs"] == 17 and ours["precision"] == ours["recall"] == ours["average_precision"] == 1
    assert ours["false_groups"] == 0 and ours["recall_by_edit"]["mirrored"] == [1, 1]
    assert ours["above_cut"]["precision"] == 1 and 0 < ours["above_cut"]["pairs"] <= ours["pairs"]
    assert (
        guess["true_pairs"] == 17 and guess["precision"] == guess["recall"] == guess["average_precision"] == 0
    )
    assert guess["recall_by_edit"]["mirrored"] == [0, 1] and guess["seconds"] == 1
    assert found["peer_versions"] == {"numpy": np.__version__}
    table = (tmp_path / "table.md").read_text().splitlines()
    assert table[2].startswith("| imgclean, min_precision .99 | 17 | 1.000 |")
    assert table[3].startswith("| guess | 1 | .000 |") and (tmp_path / "curves.png").stat().st_size > 1000


def test_without_a_truth_all_are_different(shop):
    found = json.loads(run.invoke(app, ["accuracy", str(shop)]).stdout)
    assert found["ours"]["false_groups"] == 2 and found["ours"]["recall"] is None
    assert "peers" not in found and "average_precision" not in found["ours"]


@pytest.mark.parametrize("command", ["accuracy", "transformed"])
def test_peers_that_are_not_installed_are_said(shop, monkeypatch, command):
    monkeypatch.setattr("imgclean.benchmark.peers.find_spec", lambda name: name != "cleanvision")
    result = run.invoke(app, [command, str(shop), "--peers"])
    assert result.exit_code == 2 and "--peers needs cleanvision; pip install cleanvision" in result.stderr
