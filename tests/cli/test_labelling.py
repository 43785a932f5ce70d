import csv
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from imgclean.cli import app

run = CliRunner()


@pytest.fixture(scope="module")
def mislabelled(tmp_path_factory):
    "Twelve red and twelve blue pictures, of which one red one is filed under blue."
    root, rng = tmp_path_factory.mktemp("labels"), np.random.default_rng(0)
    for k in range(24):
        colour = (200, 30, 30) if k < 12 else (30, 30, 200)
        label = "blue" if k >= 12 or k == 3 else "red"
        pixels = np.clip(np.array(colour) + rng.normal(0, 20, (48, 48, 3)), 0, 255).astype(np.uint8)
        (root / label).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / label / f"{k:02}.png")
    return root


def labels(folder, *more):
    return run.invoke(app, ["labels", str(folder), *more])


def test_a_wrong_label_comes_first(mislabelled, tmp_path):
    result = labels(
        mislabelled,
        "--report",
        str(tmp_path / "l.html"),
        "--json",
        str(tmp_path / "l.json"),
        "--csv",
        str(tmp_path / "l.csv"),
        "-n",
        "5",
    )
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "l.json").read_text())
    assert found["suspects"][0]["path"] == "blue/03.png" and found["suspects"][0]["predicted"] == "red"
    assert len(found["suspects"]) == 5 and found["images"] == 24
    with open(tmp_path / "l.csv") as f:
        rows = [*csv.DictReader(f)]
    assert [r["name"] for r in rows] == [s["path"] for s in found["suspects"]]
    for s in found["suspects"]:  # those whose label stands are in the files alone
        assert (s["path"] in result.stdout) == (s["predicted"] != s["label"])
    other = sum(s["predicted"] != s["label"] for s in found["suspects"])
    assert other >= 1 and f"{other} of the 5 most doubtful images would have another label" in result.stderr
    page = (tmp_path / "l.html").read_text()
    assert page.count('id="imgclean-picture-') == 5 and '["red/11.png","red",null]' in page


def test_probabilities_of_ones_own(mislabelled, tmp_path):
    names = [p.relative_to(mislabelled).as_posix() for p in mislabelled.rglob("*.png")]
    table = "name,blue,red\n" + "".join(
        f"{n},{0.1 if n == 'red/05.png' else 0.9},{0.9 if n == 'red/05.png' else 0.1}\n" for n in names
    )
    (tmp_path / "p.csv").write_text(table)
    result = labels(mislabelled, "--probs", str(tmp_path / "p.csv"), "--by", "self-confidence", "--json", "-")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["suspects"]
    # All but one are called blue, so the red ones are in doubt, but for that one.
    assert {s["path"] for s in found[:10]} == {f"red/{k:02}.png" for k in range(12) if k not in (3, 5)}
    for wrong, word in (
        (table + f"{names[0]},0.5,0.5\n", "several rows for"),
        (table.replace("0.9", "high", 1), "no probability"),
        (table.replace("0.9", "", 1), "no probability"),
        ("", "no csv of probabilities"),
    ):
        (tmp_path / "p.csv").write_text(wrong)
        result = labels(mislabelled, "--probs", str(tmp_path / "p.csv"))
        assert result.exit_code == 2 and word in result.stderr and "p.csv" in result.stderr, result.stderr
    (tmp_path / "p.csv").write_text(table.split("\n", 2)[0] + "\n" + table.split("\n", 2)[2])
    result = labels(mislabelled, "--probs", str(tmp_path / "p.csv"))
    assert result.exit_code == 2 and "lacks 1 of 24 images" in result.stderr


def test_fail_if_found(mislabelled):
    assert labels(mislabelled, "--fail-if-found", "-n", "1").exit_code == 1
    assert labels(mislabelled, "-n", "1").exit_code == 0


def test_wrong_use(mislabelled, tmp_path):
    (tmp_path / "x.pkl").write_bytes(b"no pickle")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    for more, word in (
        (["--by", "guess"], "guess"),
        (["--learner", str(tmp_path / "x.pkl")], "no Learner"),
        (["--learner", str(tmp_path / "nowhere.pkl")], "there is no file"),
        (["--probs", str(tmp_path / "x.csv")], "give name"),
        (["--probs", "a", "--learner", "b"], "give one of them"),
        (["-n", "0"], "at least one"),
    ):
        result = labels(mislabelled, *more)
        assert result.exit_code == 2 and word in result.stderr, (more, result.stderr)
        assert result.stderr.count("\n") == 1
