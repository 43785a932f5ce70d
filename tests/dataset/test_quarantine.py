import json
import os
import sys

import pytest

from imgclean.dataset.cleaned import fingerprint
from imgclean.dataset.items import Items
from imgclean.dataset.quarantine import (
    manifests,
    move_out,
    restore,
    system_trash,
    write_manifest,
)

NAMES = ["cat/a.jpg", "dog/b.jpg"]


def tree(folder):
    "Content of every file that is no secret of imgclean's."
    files = (p for p in folder.rglob("*") if p.is_file() and ".imgclean" not in p.parts)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


@pytest.fixture
def manifest(shop):
    return write_manifest(shop, {name: fingerprint(shop / name) for name in NAMES})


def test_the_manifest_is_written_before_anything_moves(manifest, shop):
    before = tree(shop)
    assert list(json.loads(manifest.read_text())["files"]) == NAMES and manifests(shop) == [manifest]
    assert restore(manifest).in_place == NAMES and tree(shop) == before


def test_files_go_out_and_come_back(manifest, shop):
    before = tree(shop)
    assert move_out(manifest) == (NAMES, [], {})
    assert tree(shop) == {n: data for n, data in before.items() if n not in NAMES}
    assert len(Items.from_folder(shop)) == 6  # nobody finds the quarantine
    assert restore(manifest).restored == NAMES and tree(shop) == before
    assert restore(manifest.parent).in_place == NAMES and tree(shop) == before


def test_a_moved_dataset_is_restored_where_it_is_now(manifest, shop):
    before = tree(shop)
    move_out(manifest)
    shop.rename(shop.parent / "elsewhere")
    restore(manifests(shop.parent / "elsewhere")[0])
    assert tree(shop.parent / "elsewhere") == before


def test_nothing_is_written_over(manifest, shop):
    move_out(manifest)
    (shop / "cat/a.jpg").write_bytes(b"new")
    done = restore(manifest)
    assert done.restored == ["dog/b.jpg"] and "another file is in its place" in done.failed["cat/a.jpg"]
    assert (shop / "cat/a.jpg").read_bytes() == b"new"
    again = move_out(manifest)  # neither in the quarantine
    assert "already" in again.failed["cat/a.jpg"] and again.quarantined == ["dog/b.jpg"]
    (shop / "cat/a.jpg").unlink()
    assert restore(manifest).restored == NAMES
    assert (shop / "cat/a.jpg").read_bytes() != b"new"


def test_one_failure_stops_nothing_else(manifest, shop, monkeypatch):
    (shop / "cat/a.jpg").unlink()
    assert move_out(manifest)[::2] == (["dog/b.jpg"], {"cat/a.jpg": "no such file or directory"})
    rename = os.rename

    def refuse(a, b):
        if str(b).endswith("b.jpg"):
            raise OSError(18, "Invalid cross-device link")
        rename(a, b)

    monkeypatch.setattr(os, "rename", refuse)
    assert restore(manifest).failed == {
        "cat/a.jpg": "neither in the quarantine nor in its place; look in the system's trash",
        "dog/b.jpg": "invalid cross-device link",
    }


def test_what_the_trash_does_not_take_goes_to_the_quarantine(manifest, shop):
    before, trashed = tree(shop), []

    def trash(path):
        if path.endswith("b.jpg"):
            raise PermissionError("no trash on this drive")
        trashed.append(path)
        os.rename(path, shop.parent / "in the trash")

    assert move_out(manifest, trash) == (["dog/b.jpg"], ["cat/a.jpg"], {})
    assert trashed == [str(shop / "cat/a.jpg")]
    done = restore(manifest)
    assert done.restored == ["dog/b.jpg"] and "the system's trash" in str(done)
    assert tree(shop) == {n: d for n, d in before.items() if n != "cat/a.jpg"}


def test_a_trash_that_does_nothing_is_not_believed(manifest, shop):
    assert move_out(manifest, lambda path: None).quarantined == NAMES


def test_without_send2trash_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "send2trash", None)
    with pytest.raises(ImportError, match=r"pip install imgclean\[trash\]"):
        system_trash()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"imgclean": "quarantine", "version": 9, "files": {}}', '{"imgclean": "index"}'],
)
def test_what_is_no_manifest_is_refused(manifest, text):
    manifest.write_text(text)
    with pytest.raises(ValueError, match="no manifest of a quarantine"):
        restore(manifest)


@pytest.mark.parametrize("name", ["../outside.jpg", "/etc/passwd", "cat/../../x.jpg"])
def test_a_forged_manifest_reaches_nothing_outside(manifest, name):
    about = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(about | {"files": {name: None}}))
    for act in (restore, move_out):
        with pytest.raises(ValueError, match="lies outside of its dataset"):
            act(manifest)


def test_manifests_come_oldest_first(shop):
    made = [write_manifest(shop, {}) for _ in range(3)]
    for k, path in enumerate(made):
        os.utime(path, (k, k))
    assert manifests(shop) == made and manifests(shop / "cat") == []


def test_names_that_are_no_text_survive(tmp_path):
    name = os.fsdecode(b"\xff.jpg")
    (tmp_path / name).write_bytes(b"x")
    manifest = write_manifest(tmp_path, {name: fingerprint(tmp_path / name)})
    move_out(manifest)
    assert not (tmp_path / name).exists()
    restore(manifest)
    assert (tmp_path / name).read_bytes() == b"x"
