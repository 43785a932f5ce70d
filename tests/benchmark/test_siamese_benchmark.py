import json
from functools import partial

from pictures import write_pictures
from typer.testing import CliRunner

from imgclean.benchmark import siamese as measured
from imgclean.benchmark.__main__ import app
from imgclean.dataset.items import Items


def test_share_and_queries_of_a_small_set(tmp_path, monkeypatch):
    write_pictures(tmp_path, [f"{label}/{k}.png" for label in "ab" for k in range(9)], range(18))
    monkeypatch.setattr(measured, "COMPARED", 4)
    monkeypatch.setattr(measured, "QUERIES", 2)
    monkeypatch.setattr(measured, "fit_head", partial(measured.fit_head, n_pairs=512))
    result = CliRunner().invoke(app, ["siamese", str(tmp_path), "--n", "8", "--size", "64", "--epochs", "1"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout[result.stdout.index("{") :])
    assert found["images"] == 16 and found["query"]["compared"] == 4
    low, high = found["right_95_percent"]
    assert 0 <= low <= found["right"] <= high <= 1 and 2 <= found["held_out_pairs"] <= 4
    assert found["cpu_seconds"] > 0 and found["query"]["next_against_first"] > 0


def test_some_of_each_label(tmp_path):
    write_pictures(tmp_path, ["a/1.png", "a/2.png", "b/1.png", "a/3.png"], [1, 2, 3, 4])
    some = measured.some_of_each(Items.from_folder(tmp_path), 2)
    assert [some.relpath(k) for k in range(len(some))] == ["a/1.png", "a/2.png", "b/1.png"]
