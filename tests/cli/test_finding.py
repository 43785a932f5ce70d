import csv
import json
import os
import re
import sys

import pytest
import systems
from pictures import picture, write_pictures
from PIL import Image
from typer.testing import CliRunner

from imgclean.cli import app, printable

run = CliRunner()


def contents(folder):
    "Every file below `folder` with its bytes and times."
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def find(folder, tmp_path, *more):
    "The JSON of `imgclean find`."
    target = tmp_path / "found.json"
    result = run.invoke(app, ["find", str(folder), "--json", str(target), *more])
    assert result.exit_code == 0, result.output
    return json.loads(target.read_text()), result


def test_find_keeps_the_json_contract(shop, tmp_path):
    (shop / "dog/e.jpg").write_text("no image")
    before = contents(shop)
    found, result = find(shop, tmp_path, "--min-similarity", "0.999")
    assert contents(shop) == before
    assert list(found) == ["version", "root", "settings", "images", "groups", "pairs", "unreadable"]
    assert found["version"] == 1 and found["root"] == str(shop) and found["images"] == 8
    assert [g["images"] for g in found["groups"]] == [
        ["cat/a.jpg", "cat/c.jpg", "dog/a.jpg"], ["dog/b.jpg", "dog/d.jpg"]
    ]  # fmt: skip
    assert all(g["keeper"] == g["images"][0] and 0.999 <= g["similarity"] <= 1 for g in found["groups"])
    assert [(p["a"], p["b"]) for p in found["pairs"]] == [
        ("cat/a.jpg", "cat/c.jpg"), ("cat/a.jpg", "dog/a.jpg"), ("cat/c.jpg", "dog/a.jpg"), ("dog/b.jpg", "dog/d.jpg")
    ]  # fmt: skip
    assert all(set(p) == {"a", "b", "similarity"} for p in found["pairs"])
    assert found["unreadable"] == [{"path": "dog/e.jpg", "error": "not an image that Pillow can read"}]
    assert (
        found["settings"]["arch"] == "tf_efficientnet_lite0" and found["settings"]["min_similarity"] == 0.999
    )
    assert "cat/c.jpg" in result.stdout and "dog/e.jpg" in result.stderr


def test_find_keeps_what_it_is_told_to(shop, tmp_path):
    found, result = find(
        shop, tmp_path, "--min-similarity", "0.999", "--keep", "label", "--protect", "dog/d.jpg"
    )
    assert found["settings"]["keep"] == "label"
    assert [(g["keeper"], g["protected"]) for g in found["groups"]] == [
        ("cat/a.jpg", []), ("dog/d.jpg", ["dog/d.jpg"])
    ]  # fmt: skip
    assert found["groups"][0]["reason"] == "label cat, as 2 of 3 labelled (others: 1 dog)"
    assert found["groups"][1]["reason"] == "protected" and "as 2 of 3" in result.stdout
    for wrong in (["--keep", "biggest"], ["--protect", "nowhere"]):
        result = run.invoke(app, ["find", str(shop), *wrong])
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
        assert re.search("keep is 'biggest'|protect names 'nowhere'", result.stderr)


@pytest.mark.parametrize("bad", ["nowhere", "empty", "file.jpg"])
def test_wrong_folders_end_with_one_line_and_code_2(tmp_path, bad):
    (tmp_path / "empty").mkdir()
    picture(1).save(tmp_path / "file.jpg")
    result = run.invoke(app, ["find", str(tmp_path / bad)])
    assert result.exit_code == 2 and result.stdout == ""
    assert re.fullmatch(r"imgclean: .+\n", result.stderr) and bad in result.stderr


def test_wrong_use_ends_with_code_2(shop, tmp_path):
    for args in (["find"], ["find", str(shop), "--min-similarity", "much"], ["find", str(shop), "--no-such"]):
        assert run.invoke(app, args).exit_code == 2
    for args, word in ((["--min-similarity", "2"], "between -1 and 1"), (["--arch", "vgg999"], "vgg999"), (["-n", "0"], "at least one"),
                       (["--json", str(tmp_path / "no" / "x.json")], "folder that exists")):  # fmt: skip
        result = run.invoke(app, ["find", str(shop), *args])
        assert result.exit_code == 2 and word in result.stderr and result.stderr.count("\n") == 1, (
            result.stderr
        )


@systems.names_of_bytes
def test_hostile_names_and_odd_files(tmp_path):
    "Each is either looked at or listed as unreadable; none ends the run, none is changed."
    folder = tmp_path / "odd"
    names = [
        "new\nline.jpg",
        "\x1b[31mred.jpg",
        "[bold]markup[/bold].jpg",
        "ünïcode 猫.jpg",
        "\udcff.jpg",
        "'quote\".jpg",
    ]
    write_pictures(folder, ["plain.jpg", *names], [1, *range(10, 16)])
    picture(1).convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    Image.new("RGB", (1, 1), "red").save(folder / "pixel.png")
    (folder / "zero.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("hello")
    (folder / "cut.jpg").write_bytes((folder / "plain.jpg").read_bytes()[:700])
    os.symlink("loop.jpg", folder / "loop.jpg")
    os.symlink(".", folder / "again")
    before = {k: v for k, v in contents(folder).items() if "loop" not in k}
    found, result = find(folder, tmp_path)
    assert {k: v for k, v in contents(folder).items() if "loop" not in k} == before
    assert found["images"] == 9
    assert [u["path"] for u in found["unreadable"]] == ["cut.jpg", "loop.jpg", "text.jpg", "zero.jpg"]
    assert "\x1b" not in result.stdout + result.stderr


@systems.names_of_any_character
def test_hostile_names_in_the_table(tmp_path):
    write_pictures(tmp_path / "odd", ["\x1b[31mred\n.jpg", "[bold]b[/bold].jpg"], [1, 1])
    _, result = find(tmp_path / "odd", tmp_path)
    assert r"\x1b[31mred\n.jpg" in result.stdout and "[bold]b[/bold].jpg" in result.stdout


def test_printable():
    assert printable("a\tb\x1b[0m\udcff猫") == r"a\tb\x1b[0m\udcff猫"


def test_all_identical_images_make_one_group(tmp_path):
    write_pictures(tmp_path / "same", [f"{k}.png" for k in range(40)], [1] * 40)
    found, _ = find(tmp_path / "same", tmp_path)
    assert [len(g["images"]) for g in found["groups"]] == [40]
    assert 39 <= len(found["pairs"]) <= 16 * 40
    by_cosine, _ = find(tmp_path / "same", tmp_path, "--min-similarity", "0.9")
    assert [len(g["images"]) for g in by_cosine["groups"]] == [40]
    kept, every = len(by_cosine["pairs"]), 40 * 39 // 2
    assert 40 <= kept <= 11 * 40 and by_cosine["settings"]["pairs_left_out"] == every - kept


def test_demo_finds_all_that_it_planted(tmp_path):
    result = run.invoke(app, ["demo", str(tmp_path / "demo")])
    assert result.exit_code == 0, result.output
    assert " NO" not in result.stdout and "labels differ: space and texture" in result.stdout
    assert "not planted" not in result.stdout
    csv = tmp_path / "demo/imgclean-sample/cleaned.csv"
    assert str(csv) in result.stdout and len(csv.read_text().splitlines()) == 1 + 25
    again = run.invoke(app, ["demo", str(tmp_path / "demo"), "--lab"])
    assert again.exit_code == 0 and "jupyter lab" in again.stderr
    assert (tmp_path / "demo/01_find_duplicates.ipynb").exists()


def test_that_nothing_was_learnt_of_few_images_is_said(tmp_path):
    write_pictures(tmp_path / "few", ["a.png", "b.png"], [1, 1])
    found, result = find(tmp_path / "few", tmp_path)
    assert len(found["groups"]) == 1 and found["settings"]["calibrated"] is False
    assert "too few images to learn a cut; pairs of at least 0.5 are shown" in result.stderr


def test_cache_info_and_clear(shop, tmp_path):
    run.invoke(app, ["cache", "clear"])
    cold, _ = find(shop, tmp_path)
    info = run.invoke(app, ["cache", "info"]).stdout
    # Eight files with five contents, and eight copies planted among them.
    assert (
        "vectors: 13" in info and "embeddings.sqlite" in info and "checks: 0" not in info and " kB)" in info
    )
    warm, _ = find(shop, tmp_path)
    assert warm == cold
    assert "vectors: 0" in run.invoke(app, ["cache", "clear"]).stdout
    assert run.invoke(app, ["cache", "burn"]).exit_code == 2


def test_version_and_help():
    from imgclean import __version__

    assert run.invoke(app, ["--version"]).stdout == f"imgclean {__version__}\n"
    assert "find" in run.invoke(app, ["--help"]).stdout


def test_data_alone_goes_to_stdout(shop, tmp_path):
    for more in (["--json", "-"], ["--csv", "-"]):
        result = run.invoke(app, ["find", str(shop), "--min-similarity", "0.999", "--quiet", *more])
        assert result.exit_code == 0 and result.stderr == ""
        if more[0] == "--json":
            assert [len(g["images"]) for g in json.loads(result.stdout)["groups"]] == [3, 2]
        else:
            rows = [*csv.DictReader(result.stdout.splitlines())]
            assert [(r["group"], r["name"], r["keep"]) for r in rows] == [
                ("1", "cat/a.jpg", "True"), ("1", "cat/c.jpg", "False"), ("1", "dog/a.jpg", "False"),
                ("2", "dog/b.jpg", "True"), ("2", "dog/d.jpg", "False"),
            ]  # fmt: skip
            assert rows[0]["reason"] and not rows[1]["reason"] and float(rows[1]["similarity"]) > 0.99


def test_fail_if_found(shop, tmp_path):
    found = ["find", str(shop), "--min-similarity", "0.999", "--fail-if-found"]
    assert run.invoke(app, found).exit_code == 1
    for name in ("cat/c.jpg", "dog/a.jpg", "dog/d.jpg"):
        (shop / name).unlink()
    assert run.invoke(app, found).exit_code == 0


def test_ctrl_c_ends_with_130_and_says_that_the_run_goes_on(shop, monkeypatch):
    from imgclean.formatter import DatasetFormatter

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(DatasetFormatter, "from_similars", stop)
    result = run.invoke(app, ["find", str(shop)])
    assert result.exit_code == 130 and "goes on from there" in result.stderr and result.stdout == ""


def test_leaks(shop, tmp_path):
    target = tmp_path / "leaks.json"
    page = tmp_path / "leaks.html"
    more = ["--min-similarity", "0.999", "--json", str(target), "--csv", str(tmp_path / "leaks.csv")]
    more += ["--report", str(page)]
    result = run.invoke(app, ["leaks", str(shop / "cat"), str(shop / "dog"), *more])
    assert result.exit_code == 0 and "1 of 4 images of valid (25.0 %) have a copy in train" in result.stdout
    found = json.loads(target.read_text())
    assert "dog/a.jpg" in page.read_text() and "dog/d.jpg" in page.read_text()  # which the dataset has
    assert found["splits"] == {"train": 4, "valid": 4} and found["report"][0]["leaked"] == 1
    names = {(p["name"], p["copy_name"]) for p in found["pairs"]}
    assert names == {("dog/a.jpg", "cat/a.jpg"), ("dog/a.jpg", "cat/c.jpg")}
    with open(tmp_path / "leaks.csv") as f:
        assert {(r["name"], r["copy_name"]) for r in csv.DictReader(f)} == names
    command = ["leaks", str(shop / "cat"), str(shop / "dog"), "--min-similarity", "0.999", "--quiet"]
    assert run.invoke(app, [*command, "--fail-if-found"]).exit_code == 1
    assert run.invoke(app, ["leaks", str(shop)]).exit_code == 2  # no splits


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for Python is a shell script")
def test_the_benchmark_gets_its_arguments_and_gives_its_exit_code(tmp_path, monkeypatch):
    from imgclean.benchmark.__main__ import app as benchmark

    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!/bin/sh\necho \"$@\" > '{tmp_path}/words'\nexit 3\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    assert run.invoke(app, ["benchmark", "search", "--help", "--no-such"]).exit_code == 3
    assert (tmp_path / "words").read_text() == "-m imgclean.benchmark search --help --no-such\n"
    refused = run.invoke(benchmark, ["search", "--no-such"])
    assert refused.exit_code == 2 and "--no-such" in refused.stderr
