import os
from datetime import datetime
from pathlib import Path

import pytest
from pictures import picture
from PIL import Image, ImageFilter

from imgclean.dataset import facts as module
from imgclean.dataset.facts import Facts, protected_items
from imgclean.dataset.items import Items
from imgclean.dataset.pixels import sharpness


def exif(**inner):
    tags = Image.Exif()
    tags[0x010F] = "a maker"
    tags.get_ifd(0x8769).update({0x9003: inner.get("taken", "2019:05:03 12:30:00"), 0x9286: b"a comment"})
    return tags


def test_facts_of_a_photo(tmp_path):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    path = tmp_path / "train" / "cat" / "a.jpg"
    picture(1).save(path, exif=exif())
    facts = Facts(Items.from_folder(tmp_path), 0)
    assert dict(facts) == {
        "path": path, "name": "train/cat/a.jpg", "label": "cat", "split": "train", "width": 96, "height": 80,
        "bytes": path.stat().st_size, "sharpness": sharpness(Image.open(path)), "metadata": 3,
        "time": datetime(2019, 5, 3, 12, 30), "time_from": "EXIF",
    }  # fmt: skip
    assert len(facts) == 11 and repr(facts) == "Facts('train/cat/a.jpg')"
    with pytest.raises(KeyError):
        facts["weight"]


def test_each_fact_is_measured_once_and_when_asked_for(tmp_path, monkeypatch):
    picture(1).save(tmp_path / "a.jpg")
    facts, opened = Facts(Items.from_folder(tmp_path), 0), []
    monkeypatch.setattr(module, "sharpness", lambda image: opened.append(1) or 5.0)
    assert facts["bytes"] and not opened
    assert [facts["sharpness"], facts["sharpness"]] == [5.0, 5.0] and opened == [1]


@pytest.mark.parametrize("taken", ["0000:00:00 00:00:00", "yesterday", ""])
def test_the_files_time_where_exif_has_none(tmp_path, taken):
    picture(1).save(tmp_path / "a.jpg", exif=exif(taken=taken))
    os.utime(tmp_path / "a.jpg", (1e9, 1e9))
    facts = Facts(Items.from_folder(tmp_path), 0)
    assert (facts["time"], facts["time_from"]) == (datetime.fromtimestamp(1e9), "file")


def test_a_file_that_is_broken_or_gone_has_no_numbers(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    picture(1).save(tmp_path / "b.jpg")
    items = Items.from_folder(tmp_path)
    (tmp_path / "b.jpg").unlink()
    for k in (0, 1):
        facts = Facts(items, k)
        assert [facts[name] for name in ("width", "height", "bytes", "sharpness", "metadata")] == [0] * 5
        assert facts["time_from"] == "file"


def test_blur_is_less_sharp_at_any_size():
    im = picture(1, (512, 512))
    blurred = im.filter(ImageFilter.GaussianBlur(4))
    assert sharpness(im) > 2 * sharpness(blurred) and sharpness(im) > sharpness(blurred.resize((2000, 2000)))
    assert sharpness(Image.new("RGB", (9, 9), "red")) == 0


def test_protected_are_files_and_all_below_folders(shop, monkeypatch):
    items = Items.from_folder(shop)
    names = [items.relpath(k) for k in range(len(items))]
    cats = {k for k, name in enumerate(names) if name.startswith("cat/")}
    assert protected_items(items, "cat") == protected_items(items, shop / "cat") == cats
    assert protected_items(items, ["cat/", shop / "dog" / "a.jpg"]) == cats | {names.index("dog/a.jpg")}
    assert protected_items(items, shop) == set(range(8)) and protected_items(items, ()) == frozenset()
    monkeypatch.chdir(shop.parent)
    assert protected_items(items, "shop/cat") == cats


def test_many_protected_files_are_looked_at_once_each(monkeypatch):
    paths = tuple(Path(f"/photos/{k % 7}/{k % 3}/{k}.jpg") for k in range(300))
    items = Items(paths, (None,) * 300, (None,) * 300, Path("/photos"))
    protect, looked = ["1/2", "/photos/4", *paths[:40]], []
    monkeypatch.setattr(module, "_place", lambda path: looked.append(path) or os.path.abspath(path))
    slow = {
        k
        for k, path in enumerate(paths)
        if any(path.is_relative_to(Path("/photos", inside)) for inside in protect)
    }
    assert protected_items(items, protect) == slow
    assert len(looked) == len(paths) + 2 * len(protect)


@pytest.mark.parametrize("wrong", ["cats", "ca", "dog/a", ["cat", "x"]])
def test_what_protects_nothing_is_refused(shop, wrong):
    with pytest.raises(ValueError, match=r"protect names '.*', where none of the images lies; give files"):
        protected_items(Items.from_folder(shop), wrong)
