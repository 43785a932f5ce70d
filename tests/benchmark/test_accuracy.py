import csv
import json

from typer.testing import CliRunner

from imgclean.benchmark.__main__ import app
from imgclean.benchmark.accuracy import _by_edit, _ranking, _score

run = CliRunner()


def test_accuracy_of_the_sample(sample, tmp_path):
    copies = {f: p for p in sample.planted for f in p.files if len(p.files) > 1}
    names = [p.relative_to(sample.path).as_posix() for p in sample.path.rglob("*.jpg")]
    with open(tmp_path / "truth.csv", "w", newline="") as f:
        rows = csv.writer(f)
        rows.writerow(["file", "group", "edit"])
        for name in names:
            group = copies[name].files[0] if name in copies else name
            rows.writerow([name, group, copies[name].what if name.endswith("_copy.jpg") else "original"])
    result = run.invoke(app, ["accuracy", str(sample.path), str(tmp_path / "truth.csv")])
    found = json.loads(result.stdout)
    assert found["ours"]["true_pairs"] == 17 and found["ours"]["precision"] == found["ours"]["recall"] == 1
    assert found["ours"]["false_groups"] == 0 and found["ranking"]["average_precision"] == 1
    assert found["recall_by_edit"]["mirrored"] == [1, 1]
    alone = json.loads(run.invoke(app, ["accuracy", str(sample.path)]).stdout)
    assert (
        alone["ours"]["false_groups"] == 8 and alone["ours"]["recall"] is None
    )  # without a truth all are different


def test_scores_by_hand():
    groups, edits = ["a", "a", "a", "b", "c"], ["original", "grey", "turned", "original", "original"]
    assert _score({(1, 0), (4, 3)}, groups) == {
        "true_pairs": 3,
        "pairs": 2,
        "precision": 0.5,
        "recall": 0.3333,
    }
    assert _score(set(), groups)["precision"] == 1
    assert _by_edit({(1, 0), (2, 1)}, groups, edits) == {"grey": [1, 1], "turned": [0, 1]}
    ranking = _ranking([(1, 0), (4, 3), (2, 0)], groups)
    assert ranking["average_precision"] == round((1 + 2 / 3) / 3, 4)
    assert ranking["recall_at_precision_99"] == 0.3333 and ranking["recall_of_candidates"] == 0.6667
