import json

import pytest
from typer.testing import CliRunner

from imgclean.benchmark.__main__ import app


def test_ratios_are_those_of_the_seconds():
    result = CliRunner().invoke(app, ["startup", "--repeat", "1"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    bare = found["seconds"]["pass"]
    assert set(found["seconds"]) == {"pass", "import imgclean", "imgclean --help", "imgclean find --help"}
    for name, seconds in found["seconds"].items():
        assert seconds > 0 and found["ratio"][name] == pytest.approx(seconds / bare)
