"""apply, restore, review and report, from the shell: what is done, what is refused, and that nothing is lost."""

import json
import os
import sys
import zipfile
from pathlib import Path

import pytest
import systems
from pages import data_of
from pictures import picture, write_pictures
from typer.testing import CliRunner

from imgclean.cli import app
from imgclean.dataset.items import Items
from imgclean.dataset.sources import read_source
from imgclean.find.groups import Group
from imgclean.review.exchange import export_decisions, sealed
from imgclean.review.session import Review

run = CliRunner()
GONE = {"cat/c.jpg", "dog/a.jpg"}


@pytest.fixture
def decisions(shop, tmp_path):
    "Of three equal pictures two shall go, of two others both stay."
    review = Review(Items.from_folder(shop), [Group((0, 2, 4)), Group((5, 7))], ledger=tmp_path / "l.jsonl")
    review.keep_best(0)
    review.keep_all(1)
    review.relabel(3, "dog")
    return export_decisions(review, tmp_path / "decisions.json", shop)


def everything(folder):
    return {
        p.relative_to(folder).as_posix(): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in folder.rglob("*")
        if p.is_file()
    }


def pictures_of(folder):
    return {
        name: what for name, what in everything(folder).items() if name.endswith(".jpg") and name[0] != "."
    }


def apply(decisions, *more):
    return run.invoke(app, ["apply", str(decisions), *more])


@pytest.mark.parametrize("to", ["csv", "quarantine"])
def test_a_dry_run_says_all_and_touches_nothing(decisions, shop, tmp_path, to):
    before = everything(shop)
    result = apply(decisions, "--dry-run", "--to", to, "--json", str(tmp_path / "plan.json"))
    assert result.exit_code == 0, result.output
    assert everything(shop) == before and not (shop / ".imgclean").exists()
    assert all(name in result.stdout for name in GONE) and "would list 6 of 8 images" in result.stdout
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["dry_run"] and plan["delete"] == 2 and plan["move"] == (2 if to == "quarantine" else 0)
    assert {f["name"] for f in plan["files"]} == GONE


def test_apply_quarantine_and_restore(decisions, shop):
    before = pictures_of(shop)
    result = apply(decisions, "--to", "quarantine")
    assert result.exit_code == 0, result.output
    assert f"to bring them back: imgclean restore {shop}" in result.stderr
    assert pictures_of(shop) == {k: v for k, v in before.items() if k not in GONE}
    rows = (shop / "cleaned.csv").read_text().splitlines()
    assert len(rows) == 1 + 6 and "cat/d.jpg,dog" in rows
    again = apply(decisions, "--to", "quarantine")  # as a script that is run twice
    assert again.exit_code == 0 and "2 were carried out before" in again.stderr
    assert pictures_of(shop) == {k: v for k, v in before.items() if k not in GONE}
    assert (shop / "cleaned.csv").read_text().splitlines() == rows
    back = run.invoke(app, ["restore", str(shop)])
    assert back.exit_code == 0 and "restored 2 files" in back.stdout
    assert pictures_of(shop) == before


def test_csv_is_the_default_and_touches_no_image(decisions, shop):
    before = pictures_of(shop)
    result = apply(decisions)
    assert result.exit_code == 0 and "no image file was touched" in result.stdout
    assert pictures_of(shop) == before
    assert run.invoke(app, ["restore", str(shop)]).exit_code == 2


def test_a_clean_copy(decisions, shop, tmp_path):
    before, untouched = pictures_of(shop), everything(shop)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    result = apply(decisions, "--to", "quarantine", "--copy", str(tmp_path / "full"))
    assert result.exit_code == 2 and everything(shop) == untouched  # no copy, nothing moved
    assert apply(decisions, "--copy", str(tmp_path / "clean")).exit_code == 0
    clean = {name: what[0] for name, what in pictures_of(tmp_path / "clean").items()}
    result = apply(decisions, "--copy", str(tmp_path / "clean.zip"))
    assert result.exit_code == 2 and "give a new folder" in result.stderr
    assert len(clean) == 6 and set(map(bytes, clean.values())) == {before[n][0] for n in before.keys() - GONE}
    assert sum(name.startswith("dog/") for name in clean) == 4


def test_a_folder_that_cannot_be_written_still_has_a_clean_copy(decisions, shop, tmp_path, monkeypatch):
    before, access = everything(shop), os.access
    # As a mount that is read-only says; root may write where permissions forbid it.
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path) != shop and access(path, mode), raising=True
    )
    for more in ([], ["--to", "quarantine", "--copy", str(tmp_path / "clean")]):
        result = apply(decisions, *more)
        assert result.exit_code == 2 and "give --copy PATH alone" in result.stderr
    assert not (tmp_path / "clean").exists()
    result = apply(decisions, "--copy", str(tmp_path / "clean"))
    assert result.exit_code == 0 and "has no cleaned.csv" in result.stdout
    assert len(pictures_of(tmp_path / "clean")) == 6 and everything(shop) == before


def test_no_trash_no_decision(decisions, shop, monkeypatch):
    before = everything(shop)
    monkeypatch.setitem(sys.modules, "send2trash", None)
    result = apply(decisions, "--to", "trash")
    assert result.exit_code == 2 and "send2trash" in result.stderr and everything(shop) == before


def test_files_that_are_no_images_are_not_in_the_clean_csv(shop, tmp_path):
    (shop / "dog/z.jpg").write_text("no image")
    items = Items.from_folder(shop).without({8: "no image"})
    review = Review(items, [Group((0, 2))], ledger=tmp_path / "l.jsonl")
    review.keep_best()
    assert apply(export_decisions(review, tmp_path / "d.json", shop)).exit_code == 0
    rows = (shop / "cleaned.csv").read_text().splitlines()
    assert len(rows) == 1 + 7 and "dog/z.jpg,dog" not in rows


def test_restore_in_a_folder_with_a_manifest_of_its_own(decisions, shop):
    (shop / "manifest.json").write_text("{}")
    assert apply(decisions, "--to", "quarantine").exit_code == 0
    result = run.invoke(app, ["restore", str(shop)])
    assert result.exit_code == 0 and "restored 2 files" in result.stdout


def test_an_archive_in_and_a_clean_one_out(shop, tmp_path):
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as z:
        for name in sorted(pictures_of(shop)):
            z.write(shop / name, name)
    before = (tmp_path / "shop.zip").read_bytes()
    items = read_source(tmp_path / "shop.zip")
    review = Review(items, [Group((0, 2, 4))], ledger=tmp_path / "l.jsonl")
    review.keep_best()
    file = export_decisions(review, tmp_path / "d.json", tmp_path / "shop.zip")
    result = apply(file, "--copy", str(tmp_path / "clean.zip"))
    assert result.exit_code == 0, result.output
    with zipfile.ZipFile(tmp_path / "clean.zip") as z:
        assert set(z.namelist()) == pictures_of(shop).keys() - GONE
    assert (tmp_path / "shop.zip").read_bytes() == before


def test_what_changed_is_left_as_it_is_and_said(decisions, shop):
    picture(9).save(shop / "dog/a.jpg")
    result = apply(decisions, "--to", "quarantine")
    assert result.exit_code == 1 and "dog/a.jpg" in result.stderr
    assert (shop / "dog/a.jpg").exists() and not (shop / "cat/c.jpg").exists()


def test_a_group_that_would_lose_every_copy(shop, tmp_path):
    review = Review(Items.from_folder(shop), [Group((0, 2, 4))], ledger=tmp_path / "l.jsonl")
    review.mark([0, 2, 4], "delete")
    decisions = export_decisions(review, tmp_path / "d.json", shop)
    before = pictures_of(shop)
    result = apply(decisions, "--to", "quarantine")
    assert result.exit_code == 2 and "--lose-groups" in result.stderr and "cat/a.jpg" in result.stderr
    assert pictures_of(shop) == before and not (shop / "cleaned.csv").exists()
    assert not (shop / ".imgclean").exists()  # else it would stand against a corrected file
    assert apply(decisions, "--to", "quarantine", "--lose-groups").exit_code == 0
    assert not (shop / "cat/a.jpg").exists()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"mark": {"../outside.jpg": "delete"}}, "outside"),
        ({"mark": {"/etc/hosts": "delete"}}, "outside"),
        ({"root": "here"}, "holds no decisions"),
        (None, "edited or cut off"),
    ],
)
def test_what_was_tampered_with_is_refused_and_nothing_touched(decisions, shop, tmp_path, change, word):
    picture(1).save(tmp_path / "outside.jpg")
    text = decisions.read_text()
    if change is None:
        decisions.write_text(text.replace('"delete"', '"keep"', 1))
    else:
        data = json.loads(text)
        data.pop("checksum")
        decisions.write_text(sealed(data | change))
    before = everything(tmp_path)
    result = apply(decisions, "--to", "quarantine")
    assert result.exit_code == 2 and word in result.stderr and result.stderr.count("\n") == 1
    assert everything(tmp_path) == before


def test_other_files_are_refused(shop, tmp_path):
    for text in ("", "{}", "\x1b[31m"):
        (tmp_path / "x.json").write_text(text)
        result = apply(tmp_path / "x.json")
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert apply(tmp_path / "nowhere.json").exit_code == 2
    assert run.invoke(app, ["restore", str(tmp_path / "nowhere")]).exit_code == 2
    assert run.invoke(app, ["restore", str(tmp_path / "x.json")]).exit_code == 2


def test_the_whole_path_from_report_to_apply(shop, tmp_path):
    "The page, and what it would export undecided; a second look at it goes on from the folder's ledger."
    (shop / "dog/z.jpg").write_text("no image")
    page = tmp_path / "page.html"
    result = run.invoke(app, ["report", str(shop), "-o", str(page), "--min-similarity", "0.999", "-q"])
    assert result.exit_code == 0 and result.stdout == f"{page}\n", result.output
    data = data_of(page)
    assert [g["images"] for g in data["groups"]] == [[0, 2, 4], [5, 7]]
    assert data["dataset"] == str(shop) and data["unreadable"] == ["dog/z.jpg"]
    for wrong in ("-", str(shop / "cat/a.jpg"), str(shop)):
        result = run.invoke(app, ["report", str(shop), "-o", wrong])
        assert result.exit_code == 2 and "cannot write" in result.stderr


def test_a_dataset_that_has_moved(decisions, shop, tmp_path):
    moved = shop.rename(tmp_path / "moved")
    assert apply(decisions).exit_code == 2
    result = apply(decisions, "--dataset", str(moved))
    assert result.exit_code == 0 and (moved / "cleaned.csv").exists()


def test_a_dataset_that_came_from_windows(decisions, shop):
    data = json.loads(decisions.read_text())
    data.pop("checksum")
    decisions.write_text(sealed(data | {"root": "C:\\shop", "dataset": "C:\\shop"}))
    result = apply(decisions)
    assert result.exit_code == 2 and "does not exist" in result.stderr
    assert apply(decisions, "--dataset", str(shop)).exit_code == 0


def test_another_dataset_gets_no_clean_csv(decisions, shop, tmp_path):
    write_pictures(tmp_path / "other", ["a.jpg", "b.jpg"], [21, 22])
    result = apply(decisions, "--dataset", str(tmp_path / "other"))
    assert result.exit_code == 2 and "none of the images" in result.stderr
    assert sorted(everything(tmp_path / "other")) == ["a.jpg", "b.jpg"]


@systems.names_of_any_character
def test_names_of_files_cannot_move_the_cursor(tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in ("a.jpg", "\x1b[31m\n.jpg"):
        picture(1).save(folder / name)
    review = Review(Items.from_folder(folder), [Group((1, 0))], ledger=tmp_path / "l.jsonl")
    review.keep_best()
    decisions = export_decisions(review, tmp_path / "d.json", folder)
    for more in (["--dry-run"], ["--to", "quarantine"]):
        result = apply(decisions, *more)
        assert result.exit_code == 0 and "\x1b" not in result.output
    assert "\x1b" not in run.invoke(app, ["restore", str(folder)]).output


def test_review_writes_a_notebook_once(shop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run.invoke(app, ["review", str(shop)])
    assert result.exit_code == 0 and "jupyter lab review-shop.ipynb" in result.stderr
    book = json.loads((tmp_path / "review-shop.ipynb").read_text())
    code = "".join("".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code")
    assert str(shop) in code and "ImageCleaner" in code
    (tmp_path / "review-shop.ipynb").write_text("{}")  # somebody's own by now
    again = run.invoke(app, ["review", str(shop), "--voila"])
    assert "voila" in again.stderr and "review-shop.ipynb is there already" in again.stderr
    assert (tmp_path / "review-shop.ipynb").read_text() == "{}"
    assert run.invoke(app, ["review", str(tmp_path / "nowhere")]).exit_code == 2


def test_the_notebook_of_review_runs(shop, tmp_path, monkeypatch):
    "Its code, without a kernel: two groups are there to decide."
    monkeypatch.chdir(tmp_path)
    assert run.invoke(app, ["review", str(shop)]).exit_code == 0
    names = {}
    for cell in json.loads((tmp_path / "review-shop.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert len(names["idxs"]) == 2 and names["cleaner"].review.path == shop
