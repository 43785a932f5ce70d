import json

from typer.testing import CliRunner

from imgclean.benchmark.__main__ import app

run = CliRunner()


def test_features_prints_json(shop):
    result = run.invoke(app, ["features", str(shop), "--repeats", "1"])
    found = json.loads(result.stdout)
    assert found["images"] == 8 and found["images_per_s"] > 0 and 0 < found["warm_to_cold"] < 1
