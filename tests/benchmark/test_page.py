import json
from contextlib import nullcontext

from typer.testing import CliRunner

from imgclean.benchmark.__main__ import app


def test_page_prints_bytes_and_seconds(chrome, monkeypatch):
    # The run's own browser: a second Playwright in a process fails.
    monkeypatch.setattr("imgclean.benchmark.page.chromium", lambda: nullcontext(chrome))
    found = json.loads(CliRunner().invoke(app, ["page", "--groups", "12", "--repeats", "1"]).stdout)
    assert (found["groups"], found["images"]) == (12, 28)
    assert len(found["seconds_each"]) == 1 and found["seconds_to_open"] == found["seconds_each"][0] > 0
    # 1,000 groups of two, two and three images in 50 MB; scripts and styles count once.
    assert found["bytes"] < 12 * 50_000 + 100_000
