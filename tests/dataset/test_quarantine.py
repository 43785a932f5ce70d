import json
import os
import sys
from pathlib import PurePosixPath, PureWindowsPath

import pytest
import systems

from imgclean.dataset.cleaned import fingerprint
from imgclean.dataset.items import Items
from imgclean.dataset.quarantine import (
    leads_outside,
    manifests,
    move_out,
    restore,
    restore_all,
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
    again = restore(manifest)
    assert again.in_place == NAMES and tree(shop) == before
    assert str(again) == "restored 0 files, 2 files in place already; cleaned.csv stays as it is"


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


def test_a_file_that_comes_at_the_last_moment_is_not_written_over(manifest, shop, monkeypatch):
    move_out(manifest)
    link = os.link

    def late(a, b, **how):
        (shop / "cat/a.jpg").write_bytes(b"new")
        link(a, b, **how)

    monkeypatch.setattr(os, "link", late)
    done = restore(manifest)
    assert done.restored == ["dog/b.jpg"] and "another file is in its place" in done.failed["cat/a.jpg"]
    assert (shop / "cat/a.jpg").read_bytes() == b"new" and (manifest.parent / "files/cat/a.jpg").exists()


@pytest.mark.parametrize("broken", [OSError(1, "Operation not permitted"), NotImplementedError()])
def test_files_come_back_to_a_drive_without_hard_links(manifest, shop, monkeypatch, broken):
    before = tree(shop)
    move_out(manifest)
    (shop / "cat/a.jpg").write_bytes(b"new")

    def refuse(*_, **__):
        raise broken

    monkeypatch.setattr(os, "link", refuse)
    assert "another file is in its place" in restore(manifest).failed["cat/a.jpg"]
    (shop / "cat/a.jpg").unlink()
    assert restore(manifest).restored == NAMES[:1] and tree(shop) == before


def test_a_restore_that_was_killed_between_two_names_is_finished(manifest, shop):
    before = tree(shop)
    move_out(manifest)
    held = manifest.parent / "files/cat/a.jpg"
    os.link(held, shop / "cat/a.jpg")
    assert restore(manifest) == (NAMES, [], {})
    assert tree(shop) == before and not held.exists()
    assert restore(manifest).in_place == NAMES


@systems.links
def test_a_quarantine_that_is_the_dataset_itself_loses_nothing(manifest, shop):
    before = tree(shop)
    (manifest.parent / "files").rmdir()
    (manifest.parent / "files").symlink_to(shop)
    assert restore(manifest).failed.keys() == set(NAMES) and tree(shop) == before


@systems.links
def test_links_come_back_as_links(shop):
    (shop / "cat/l.jpg").symlink_to("../dog/b.jpg")
    (shop / "cat/n.jpg").symlink_to("nowhere.jpg")
    manifest = write_manifest(shop, {"cat/l.jpg": None, "cat/n.jpg": None})
    move_out(manifest)
    assert restore(manifest).failed == {}
    assert os.readlink(shop / "cat/l.jpg") == "../dog/b.jpg" and (shop / "cat/l.jpg").read_bytes()
    assert os.readlink(shop / "cat/n.jpg") == "nowhere.jpg"


def test_one_failure_stops_nothing_else(manifest, shop, monkeypatch):
    (shop / "cat/a.jpg").unlink()
    assert move_out(manifest)[::2] == (["dog/b.jpg"], {"cat/a.jpg": "no such file or directory"})

    def refuse(a, b, **_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
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


@pytest.mark.parametrize(
    "name", ["C:/x", "C:x", "\\x", "..\\..\\x", "a\\..\\..\\x", "//host/share/x", "/x", "../x"]
)
def test_names_that_lead_outside_on_windows_are_known(name):
    assert leads_outside(name, PureWindowsPath)


@pytest.mark.parametrize("name", ["C:x.jpg", "a\\..\\b.jpg", "a/..b.jpg"])
def test_odd_names_of_other_systems_are_no_forgery(name):
    assert not leads_outside(name, PurePosixPath)


def quarantined(shop, names, age):
    "A quarantine of these files, made `age` seconds ago."
    manifest = write_manifest(shop, {name: fingerprint(shop / name) for name in names})
    move_out(manifest)
    os.utime(manifest, (10**9 - age, 10**9 - age))
    return manifest


def test_all_quarantines_that_hold_files_are_restored(shop):
    before = tree(shop)
    restore(quarantined(shop, ["cat/d.jpg"], 4))
    (shop / "cat/d.jpg").unlink()  # later, by its owner: of no interest
    half = write_manifest(shop, {name: None for name in NAMES})
    os.utime(half, (10**9 - 3, 10**9 - 3))
    (half.parent / "files/cat").mkdir()
    os.rename(shop / "cat/a.jpg", half.parent / "files/cat/a.jpg")  # and killed
    quarantined(shop, ["dog/b.jpg"], 2)
    done = restore_all(shop)
    assert sorted(done.restored) == NAMES and done.in_place == [] and done.failed == {}
    assert tree(shop) == {n: data for n, data in before.items() if n != "cat/d.jpg"}
    assert restore_all(shop) == ([], ["dog/b.jpg"], {})


def test_of_two_quarantines_that_listed_a_file_at_once_one_has_it(shop):
    name, both = "cat/a.jpg", []
    for _ in range(2):
        both.append(write_manifest(shop, {name: [1, 1, "0"]}))
    for first in both:
        move_out(first)  # the second one finds it gone
    done = restore_all(shop)
    assert done.restored == [name] and done.failed == {} and (shop / name).exists()


def test_of_two_quarantined_files_of_one_name_the_later_comes_back(shop):
    old = quarantined(shop, ["cat/a.jpg"], 2)
    (shop / "cat/a.jpg").write_bytes(b"new")
    quarantined(shop, ["cat/a.jpg"], 1)
    done = restore_all(shop)
    assert (shop / "cat/a.jpg").read_bytes() == b"new" and done.restored == ["cat/a.jpg"]
    assert str(old.parent) in done.failed["cat/a.jpg"]


def test_manifests_come_oldest_first(shop):
    made = [write_manifest(shop, {}) for _ in range(3)]
    for k, path in enumerate(made):
        os.utime(path, (k, k))
    assert manifests(shop) == made and manifests(shop / "cat") == []


@systems.names_of_bytes
def test_names_that_are_no_text_survive(tmp_path):
    name = os.fsdecode(b"\xff.jpg")
    (tmp_path / name).write_bytes(b"x")
    manifest = write_manifest(tmp_path, {name: fingerprint(tmp_path / name)})
    move_out(manifest)
    assert not (tmp_path / name).exists()
    restore(manifest)
    assert (tmp_path / name).read_bytes() == b"x"
