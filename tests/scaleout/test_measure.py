"""The measure of a run on Ray tells what one process tells, and counts its bytes."""

import json

import pytest
from pictures import write_pictures
from typer.testing import CliRunner

pytest.importorskip("ray.data", reason="Ray is not installed; pip install 'imgclean[ray]'")

from imgclean.benchmark.__main__ import app
from imgclean.benchmark.scaled import _against
from imgclean.find.pairs import Pairs


def test_what_is_found_is_told_against_the_truth():
    truth = Pairs.of([1, 2, 3, 4], [0, 0, 0, 0], [1, 1, 1, 1])
    found = Pairs.of([0, 2, 5], [1, 0, 0], [1, 1, 1])
    assert _against(found, truth) == {"pairs": 3, "recall": 0.5, "precision": 2 / 3}


def test_either_a_folder_or_a_simulation():
    for wrong in ([], ["photos", "--simulate"]):
        assert CliRunner().invoke(app, ["scale", *wrong]).exit_code == 2


def test_every_stage_is_told(tmp_path, monkeypatch, small_ray):
    names = [f"{k:02}.png" for k in range(24)]
    write_pictures(tmp_path / "set", names, [k % 20 for k in range(24)])
    result = CliRunner().invoke(
        app, ["scale", str(tmp_path / "set"), "--workers", "1", "--min-similarity", "0.999"]
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["images"] == 24 and told["pairs"] == 4
    for way in ("clusters", "exact"):
        assert (
            told["ray"]["found"][way] | {"pairs": 4, "recall": 1.0, "precision": 1.0}
            == told["ray"]["found"][way]
        )
    assert set(told["ray"]["stages"]) == {
        "start",
        "list",
        "embed",
        "cluster",
        "compare_clusters",
        "compare_exact",
        "write",
    }
    size = sum((tmp_path / "set" / name).stat().st_size for name in names)
    assert told["ray"]["bytes_an_image"]["read"] == round(size / 24)
    assert told["ray"]["bytes_an_image"]["embeddings"] > 2560  # parquet packs these pictures' zeros
    assert told["embed_ray_to_one_process"] > 0
