import json

from typer.testing import CliRunner

from imgclean.benchmark.__main__ import app

run = CliRunner()


def test_features_prints_json(shop):
    result = run.invoke(app, ["features", str(shop), "--repeats", "1", "--size", "64"])
    found = json.loads(result.stdout)
    assert (
        found["images"] == 8
        and found["d"] == 2 * 1280
        and found["images_per_s"] > 0
        and found["warm_to_cold"] > 0
    )


def test_a_peer_that_is_not_installed_is_said(shop, monkeypatch):
    monkeypatch.setattr("imgclean.benchmark.peers.find_spec", lambda name: None)
    result = run.invoke(app, ["features", str(shop), "--peer"])
    assert result.exit_code == 2 and "pip install imagededup" in result.stderr
