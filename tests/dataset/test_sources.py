import os

import numpy as np
import pytest
from pictures import picture, write_pictures
from PIL import Image

from imgclean.dataset.sources import read_source


def test_several_folders_are_one_dataset_with_a_split_each(tmp_path):
    write_pictures(tmp_path, ["old/cat/1.jpg", "old/dog/2.jpg", "new/photos/cat/3.jpg"], [1, 2, 3])
    items = read_source({"Training": tmp_path / "old", "val": tmp_path / "new/photos"})
    assert [items.relpath(k) for k in range(3)] == ["old/cat/1.jpg", "old/dog/2.jpg", "new/photos/cat/3.jpg"]
    assert items.splits == ("train", "train", "valid") and items.labels == ("cat", "dog", "cat")
    assert read_source({"holdout": tmp_path / "old"}).splits == ("holdout",) * 2


def test_folders_within_each_other_are_refused(tmp_path):
    write_pictures(tmp_path, ["all/cat/1.jpg", "all/valid/cat/2.jpg"], [1, 2])
    with pytest.raises(ValueError, match="share files"):
        read_source({"train": tmp_path / "all", "valid": tmp_path / "all/valid"})


def test_tables_may_share_files_and_list_one_twice(tmp_path):
    write_pictures(tmp_path, ["1.jpg", "2.jpg"], [1, 2])
    (tmp_path / "a.csv").write_text("name\n1.jpg\n1.jpg\n")
    (tmp_path / "b.csv").write_text("name\n1.jpg\n2.jpg\n")
    items = read_source({"train": tmp_path / "a.csv", "valid": tmp_path / "b.csv"})
    assert [p.name for p in items.paths] == ["1.jpg", "1.jpg", "1.jpg", "2.jpg"]
    assert items.splits == ("train", "train", "valid", "valid")


def test_a_label_for_each_image_of_a_folder_may_be_an_array(shop):
    assert read_source(shop, labels=np.array(list("12345678"))).labels == tuple("12345678")


def stored(items):
    return [Image.open(path).tobytes() for path in items.paths]


def test_parts_of_pictures_have_a_place_of_their_own_for_each_way_to_split_them():
    images = [picture(k) for k in range(4)]
    whole = read_source(images)
    for cut in (1, 2, 3):
        items = read_source({"train": whole.subset(range(cut)), "valid": whole.subset(range(cut, 4))})
        assert stored(items) == [image.tobytes() for image in images]
    for image in images[:2]:
        assert stored(read_source({"train": {"x": [image]}})) == [image.tobytes()]


def test_any_names_of_parts_keep_their_pictures_apart():
    images = [picture(k) for k in range(5)]
    names = ["1", "a b", "A", "a", 0]
    items = read_source({name: [image] for name, image in zip(names, images, strict=True)})
    assert stored(items) == [image.tobytes() for image in images]
    assert items.splits == ("1", "a b", "A", "a", "0")
    assert stored(read_source(images)) == [image.tobytes() for image in images]


def test_a_picture_that_is_broken_is_named(tmp_path):
    picture(1).save(tmp_path / "1.jpg")
    (tmp_path / "2.jpg").write_bytes((tmp_path / "1.jpg").read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"image 1 of the list \(.*2.jpg\) cannot be read: .*; leave it out"):
        read_source([Image.open(tmp_path / name) for name in ("1.jpg", "2.jpg")])


def test_a_folder_that_cannot_be_listed_is_told_of_whatever_is_included(tmp_path, monkeypatch):
    write_pictures(tmp_path, ["open/1.jpg", "shut/2.jpg", "thumbs/3.jpg"], [1, 2, 3])
    listed = os.scandir

    def refuse(folder):
        if os.path.basename(folder) in ("shut", "thumbs"):
            raise PermissionError(13, "Permission denied", os.fspath(folder))
        return listed(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    items = read_source(tmp_path, include="*.jpg", exclude="thumbs")
    assert [p.name for p in items.paths] == ["1.jpg"]
    assert [bad.path.name for bad in items.unreadable] == ["shut"]
