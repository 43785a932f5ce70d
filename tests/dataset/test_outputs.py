import errno
import logging
import os
from dataclasses import replace

import pandas as pd
import pytest
import systems
from hypothesis import given
from hypothesis import strategies as st
from packing import everything
from pictures import write_pictures

from imgclean.dataset.folders import folder_label, folder_split
from imgclean.dataset.items import Items
from imgclean.dataset.outputs import free_name, name_by_label
from imgclean.dataset.sources import read_source


@pytest.mark.parametrize("link", [False, True])
def test_a_clean_folder_has_the_images_that_stay_under_their_labels(shop, tmp_path, link):
    was, items = everything(shop), Items.from_folder(shop)
    clean = replace(items, labels=("dog", *items.labels[1:])).subset([0, 1, 5])
    out = clean.to_folder(tmp_path / "clean", link=link)
    assert everything(out) == {
        "dog/a.jpg": was["cat/a.jpg"], "cat/b.jpg": was["cat/b.jpg"], "dog/b.jpg": was["dog/b.jpg"]
    }  # fmt: skip
    assert everything(shop) == was and Items.from_folder(out).labels == ("cat", "dog", "dog")
    assert os.path.samefile(out / "cat/b.jpg", shop / "cat/b.jpg") == link


def test_labels_of_a_table_become_folders_and_no_name_is_taken_twice(shop, tmp_path):
    items = Items.from_folder(shop)
    table = items.df().assign(
        label=["x", "x", "x", None, "x", "y", "y", "y"], split=["train"] * 4 + ["valid"] * 4
    )
    items = read_source(table, root=shop)
    back = Items.from_folder(items.to_folder(tmp_path / "clean"))
    named = zip(items.labels, items.splits, strict=True)
    assert sorted(zip(back.labels, back.splits, strict=True), key=str) == sorted(named, key=str)
    taken: set[str] = set()
    assert [free_name(n, taken) for n in ("a.jpg", "A.jpg", "a-2.jpg")] == ["a.jpg", "A-2.jpg", "a-2-2.jpg"]


word = st.text("abtrain.", min_size=1, max_size=5) | st.sampled_from(["train", "valid", "test", "..", "a/b"])


@given(
    st.lists(word, min_size=1, max_size=3).map("/".join),
    st.none() | word,
    st.sampled_from([None, "train", "valid", "test"]),
)
def test_names_tell_label_and_split_or_are_refused(name, label, split):
    try:
        *folders, base = name_by_label(name + "/1.jpg", label, split).split("/")
    except ValueError:
        return
    assert base == "1.jpg" and ".." not in folders and folder_label(folders) == label
    assert split is None or folder_split(folders) == split


def test_labels_that_are_no_folders_are_refused(shop, tmp_path):
    items = Items.from_folder(shop)
    for label in ("a/b", "..", "test", ".hidden", ""):
        with pytest.raises(ValueError, match="can be no folder of images"):
            replace(items, labels=(label,) * 8, splits=(None,) * 8, root=shop / "cat").to_folder(
                tmp_path / "x"
            )
    assert not (tmp_path / "x").exists()


@systems.links
def test_nothing_is_overwritten_and_nothing_goes_into_the_dataset(shop, tmp_path):
    items, was = Items.from_folder(shop), everything(tmp_path)
    for inside in (shop, shop / "clean", shop / "cat/../clean"):
        with pytest.raises(ValueError, match="lies inside the dataset"):
            items.to_folder(inside)
    os.symlink(shop, tmp_path / "link")
    with pytest.raises(ValueError, match="lies inside the dataset"):
        items.to_folder(tmp_path / "link/clean")
    (tmp_path / "link").unlink()
    with pytest.raises(FileExistsError, match="is there already"):
        items.to_folder(tmp_path)
    gone = replace(items, paths=(*items.paths[:-1], shop / "gone.jpg"))
    with pytest.raises(FileNotFoundError):
        gone.to_folder(tmp_path / "clean")
    assert everything(tmp_path) == was and not (tmp_path / "clean").exists()


def test_where_no_link_is_possible_files_are_copied_and_that_is_said(shop, tmp_path, monkeypatch, caplog):
    def no_link(*_args, **_kwargs):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    with caplog.at_level(logging.WARNING):
        out = Items.from_folder(shop).to_folder(tmp_path / "clean", link=True)
    assert "8 of 8 images were copied" in caplog.text and everything(out) == everything(shop)


def test_hidden_names_of_a_table_are_shown_in_the_clean_folder(tmp_path):
    write_pictures(tmp_path, [".thumbs/.1.jpg", ".thumbs/2.jpg"], [1, 2])
    table = pd.DataFrame({"name": [".thumbs/.1.jpg", ".thumbs/2.jpg"], "label": ["a", "thumbs"]})
    out = read_source(table, root=tmp_path).to_folder(tmp_path / "out")
    assert sorted(everything(out)) == ["a/1.jpg", "thumbs/2.jpg"]
    assert Items.from_folder(out).labels == ("a", "thumbs")


def test_a_table_or_list_may_lie_beside_the_clean_folder_but_that_not_among_the_images(
    shop, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    names = [f"shop/cat/{n}.jpg" for n in "ab"] + ["shop/dog/a.jpg"]
    pd.DataFrame({"name": names}).to_csv("all.csv", index=False)
    for k, source in enumerate((pd.DataFrame({"name": names}), "all.csv", tmp_path / "all.csv")):
        items = read_source(source)
        assert len(everything(items.to_folder(f"clean-{k}"))) == 3
        with pytest.raises(ValueError, match=r"'shop/x' lies inside the dataset '.*shop'"):
            items.to_folder("shop/x")
