"""What is written into the page of a report: pictures, rows, what is refused."""

import base64
import json
import os
import re
import shutil
from dataclasses import replace

import pytest
from pages import GROUPS, blocks, data_of, labelled
from pictures import write_pictures

from imgclean.dataset.items import Items
from imgclean.find.groups import Group, Suspect
from imgclean.review.report import SIDE, write_report


def test_equal_files_share_a_picture_and_a_broken_one_says_why(folder, tmp_path):
    (folder / "02.jpg").write_bytes(b"no image")
    found = blocks(write_report(labelled(folder), GROUPS[:2], tmp_path / "r.html"))
    assert [i["picture"] for i in json.loads(found.texts["data"])["items"]] == [0, 0, 2, 3, 3]
    assert (
        found.attrs["picture-2"]["data-missing"] == "not an image that Pillow can read"
        and not found.texts["picture-2"]
    )
    assert base64.b64decode(found.texts["picture-0"]).startswith(b"\xff\xd8")


def test_large_images_are_shown_small(tmp_path):
    write_pictures(tmp_path, ["a.jpg"], [1])
    from PIL import Image

    with Image.open(tmp_path / "a.jpg") as im:
        im.resize((1600, 900)).save(tmp_path / "a.jpg")
    found = blocks(write_report(Items.from_folder(tmp_path), [(0,)], tmp_path / "r.html"))
    (tmp_path / "small.jpg").write_bytes(base64.b64decode(found.texts["picture-0"]))
    assert Image.open(tmp_path / "small.jpg").size == (SIDE, SIDE * 900 // 1600)


def test_a_dataset_read_as_a_whole_is_not_listed(folder, tmp_path):
    page = write_report(labelled(folder), GROUPS, tmp_path / "r.html", dataset=os.path.relpath(folder))
    assert blocks(page).texts["rows"] == "null" and data_of(page)["dataset"] == str(folder)


def test_a_flat_list_is_single_images_to_relabel(folder, tmp_path):
    page = write_report(
        labelled(folder), [Suspect(3, 0.1, "dog", "loss 3"), Suspect(0, 0.2, "cat", "")], tmp_path / "r.html"
    )
    data = data_of(page)
    assert data["traits"]["single"] and data["traits"]["predicted"] == ["cat", "dog"]
    assert [(g["images"], g["predicted"]) for g in data["groups"]] == [([3], "dog"), ([0], "cat")]


def test_what_is_gone_is_said_and_an_older_report_stays(folder, tmp_path):
    page = write_report(labelled(folder), GROUPS, tmp_path / "r.html")
    before, items = page.read_bytes(), labelled(folder)
    (folder / "05.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"05\.jpg cannot be read any more"):
        write_report(items, GROUPS, page)
    assert page.read_bytes() == before and set(os.listdir(tmp_path)) == {"in", "r.html"}


def test_other_content_is_another_report(folder, tmp_path):
    def digest() -> str:
        return data_of(write_report(labelled(folder), GROUPS, tmp_path / "r.html"))["digest"]

    first = digest()
    assert digest() == first and re.fullmatch("[0-9a-f]{32}", first)
    shutil.copy(folder / "06.jpg", folder / "05.jpg")
    assert digest() != first


def test_images_outside_of_the_root_are_refused(folder, tmp_path):
    items = replace(Items.from_paths([folder / "00.jpg", folder / "01.jpg"]), root=tmp_path)
    write_report(items, [Group((0, 1))], tmp_path / "r.html")
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match=r"00\.jpg lies outside of .*; give the dataset a root"):
        write_report(replace(items, root=tmp_path / "other"), [Group((0, 1))], tmp_path / "r.html")
