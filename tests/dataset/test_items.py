import os
import subprocess
import sys
from pathlib import Path

import pytest
import systems
from pictures import picture, write_pictures

from imgclean.dataset.items import Items


def test_folder_gives_sorted_paths_labels_and_splits(tmp_path):
    write_pictures(tmp_path, ["valid/b/1.png", "train/a/2.jpg", "train/a/1.JPG"], [1, 2, 3])
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    picture(4).save(tmp_path / ".hidden/4.jpg")
    items = Items.from_folder(tmp_path)
    assert [items.relpath(k) for k in range(3)] == ["train/a/1.JPG", "train/a/2.jpg", "valid/b/1.png"]
    assert items.labels == ("a", "a", "b") and items.splits == ("train", "train", "valid")
    assert items.vocab == ("a", "b")


def test_images_beside_the_root_have_no_label(tmp_path):
    write_pictures(tmp_path, ["1.jpg", "train/2.jpg", "train/cat/3.jpg"], [1, 2, 3])
    assert Items.from_folder(tmp_path).labels == (None, None, "cat")


def test_label_func(tmp_path):
    picture(1).save(tmp_path / "beagle_12.jpg")
    assert Items.from_folder(tmp_path, lambda p: p.stem.split("_")[0]).labels == ("beagle",)


def test_wrong_folders_are_refused(tmp_path):
    picture(1).save(tmp_path / "1.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotADirectoryError, match="does not exist"):
        Items.from_folder(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="is a file"):
        Items.from_folder(tmp_path / "1.jpg")
    with pytest.raises(ValueError, match="no images"):
        Items.from_folder(tmp_path / "empty")


@systems.links
def test_symlinks_end_and_duplicate_nothing(tmp_path):
    write_pictures(tmp_path / "set", ["real/1.jpg"], [1])
    write_pictures(tmp_path, ["outside/2.jpg"], [2])
    for name, target in [("loop", "."), ("again", "real"), ("far", "../outside")]:
        os.symlink(target, tmp_path / "set" / name)
    os.symlink("itself.jpg", tmp_path / "set" / "itself.jpg")
    items = Items.from_folder(tmp_path / "set")
    assert [items.relpath(k) for k in range(len(items))] == ["far/2.jpg", "itself.jpg", "real/1.jpg"]


def test_subset_and_without(tmp_path):
    write_pictures(tmp_path, ["a/1.jpg", "a/2.jpg", "b/3.jpg"], [1, 2, 3])
    items = Items.from_folder(tmp_path).without({1: "broken"})
    assert [p.name for p in items.paths] == ["1.jpg", "3.jpg"] and items.labels == ("a", "b")
    assert [(u.path.name, u.error) for u in items.unreadable] == [("2.jpg", "broken")]
    assert items.subset([1]).labels == ("b",)


@systems.names_of_bytes
def test_names_that_are_no_utf8_are_in_the_table(tmp_path):
    name = os.fsdecode(b"\xff.jpg")
    picture(1).save(tmp_path / name)
    assert Items.from_folder(tmp_path).df().name[0] == name


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="one of each"):
        Items((Path("a.jpg"),), (), (None,), Path())


def test_facts_of_a_vanished_file_are_zero(tmp_path):
    picture(1).save(tmp_path / "1.jpg")
    items = Items.from_folder(tmp_path)
    assert items.size(0) == (96, 80) and items.n_bytes(0) > 0
    (tmp_path / "1.jpg").unlink()
    assert items.size(0) == (0, 0) and items.n_bytes(0) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_what_may_not_be_read_is_listed(tmp_path):
    "As root everything may be read, so then a child process gives its rights up first."
    write_pictures(tmp_path, ["open/1.jpg", "open/shut.jpg", "shut/2.jpg"], [1, 2, 3])
    (tmp_path / "open/shut.jpg").chmod(0)
    (tmp_path / "shut").chmod(0)
    ours = [folder for folder in tmp_path.parents if folder.name.startswith(("pytest-", "popen-"))]
    for folder in (tmp_path, *ours):
        folder.chmod(folder.stat().st_mode | 0o055)
    code = """if True:
        import os, sys
        sys.path.insert(0, sys.argv[2])
        from imgclean.dataset.images import open_image
        from imgclean.dataset.items import Items
        open_image(sys.argv[1] + "/open/1.jpg")  # loads Pillow's plugins while that is allowed
        if os.geteuid() == 0:
            os.setgid(65534); os.setuid(65534)
        items = Items.from_folder(sys.argv[1])
        print([items.relpath(k) for k in range(len(items))], [(u.path.name, u.error) for u in items.unreadable])
        try: open_image(items.paths[1])
        except OSError as err: print(err)
    """
    command = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parents[2])]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    (tmp_path / "shut").chmod(0o755)
    assert run.stdout.splitlines() == [
        "['open/1.jpg', 'open/shut.jpg'] [('shut', 'the folder cannot be listed: permission denied')]",
        "no permission to read the file",
    ]


# fastai's ways to build DataLoaders


def test_from_dls_from_folder(shop):
    from fastai.vision.all import ImageDataLoaders, Resize

    dls = ImageDataLoaders.from_folder(shop, valid_pct=0.25, seed=1, item_tfms=Resize(32), bs=2)
    items = Items.from_dls(dls)
    assert len(items) == 8 and items.root == shop and sorted(items.labels) == ["cat"] * 4 + ["dog"] * 4
    assert items.splits == ("train",) * 6 + ("valid",) * 2
    assert all(label == path.parent.name for label, path in zip(items.labels, items.paths, strict=True))
    assert list(items.paths[:6]) == list(dls.train_ds.items)


def test_from_dls_from_dataframe_and_csv(shop):
    import pandas as pd
    from fastai.vision.all import ImageDataLoaders, Resize

    df = pd.DataFrame({"name": ["cat/a.jpg", "dog/b.jpg", "dog/c.jpg"], "label": ["x", "y", "y"]})
    df.to_csv(shop / "set.csv", index=False)
    args = dict(valid_pct=0.34, seed=1, item_tfms=Resize(32), bs=1)
    for dls in (
        ImageDataLoaders.from_df(df, shop, **args),
        ImageDataLoaders.from_csv(shop, "set.csv", **args),
    ):
        items = Items.from_dls(dls)
        found = {items.relpath(k): items.labels[k] for k in range(len(items))}
        assert found == {"cat/a.jpg": "x", "dog/b.jpg": "y", "dog/c.jpg": "y"}


def test_from_dls_with_several_labels(shop):
    import pandas as pd
    from fastai.vision.all import ImageDataLoaders, Resize

    df = pd.DataFrame({"name": ["cat/a.jpg", "dog/b.jpg", "dog/c.jpg"], "label": ["x;y", "y", "x"]})
    dls = ImageDataLoaders.from_df(
        df, shop, valid_pct=0.34, seed=1, label_delim=";", item_tfms=Resize(32), bs=1
    )
    items = Items.from_dls(dls)
    assert {items.relpath(k): items.labels[k] for k in range(3)} == dict(df.values.tolist())


def test_from_dls_without_labels(shop):
    from fastai.vision.all import DataBlock, ImageBlock, Resize, get_image_files

    block = DataBlock((ImageBlock,), get_items=get_image_files, n_inp=1, item_tfms=Resize(32))
    items = Items.from_dls(block.dataloaders(shop, bs=2))
    assert len(items) == 8 and set(items.labels) == {None}


def test_from_dls_needs_files(shop):
    from fastai.vision.all import CategoryBlock, DataBlock, ImageBlock

    block = DataBlock((ImageBlock, CategoryBlock), get_items=lambda _: [1, 2, 3, 4, 5], get_x=lambda k: picture(k),
                      get_y=lambda k: k % 2)  # fmt: skip
    with pytest.raises(ValueError, match="not files"):
        Items.from_dls(block.dataloaders(shop, bs=2))


def test_back_to_dataloaders(shop):
    items = Items.from_folder(shop)
    dls = items.dataloaders(bs=2, num_workers=0)
    xb, _ = dls.one_batch()
    assert xb.shape == (2, 3, 224, 224) and list(dls.vocab) == ["cat", "dog"]
    again = Items.from_dls(dls)
    assert sorted(zip(again.paths, again.labels, strict=True)) == list(
        zip(items.paths, items.labels, strict=True)
    )


def test_back_to_dataloaders_keeps_the_split_and_leaves_the_test_set_out(tmp_path):
    write_pictures(tmp_path, [f"{s}/{c}/{k}.jpg" for s in ("train", "valid", "test") for c in "ab" for k in (1, 2)],
                   list(range(12)))  # fmt: skip
    dls = Items.from_folder(tmp_path).dataloaders(bs=1)
    assert {p.parts[-3] for p in Items.from_dls(dls).paths} == {"train", "valid"}
    assert all("valid" in str(p) for p in Items.from_dls(dls).paths[-4:])


def test_back_to_dataloaders_needs_labels(tmp_path):
    write_pictures(tmp_path, ["1.jpg", "2.jpg"], [1, 2])
    with pytest.raises(ValueError, match="2 of 2 images have no label"):
        Items.from_folder(tmp_path).dataloaders()


def test_ids_of_a_table_are_followed_to_their_files(shop):
    from fastai.vision.all import CategoryBlock, DataBlock, ImageBlock, Resize

    ids = ["cat/a", "cat/b", "dog/a", "dog/b"]
    block = DataBlock((ImageBlock, CategoryBlock), get_items=lambda _: ids, get_x=lambda name: shop / f"{name}.jpg",
                      get_y=lambda name: name[:3], item_tfms=Resize(32))  # fmt: skip
    items = Items.from_dls(block.dataloaders(shop, bs=2))
    assert sorted(items.relpath(k) for k in range(4)) == [f"{name}.jpg" for name in ids]


def test_masks_numbers_and_points_are_no_labels(shop):
    from fastai.vision.all import DataBlock, ImageBlock, MaskBlock, RegressionBlock, Resize, get_image_files

    for target, get_y in ((RegressionBlock, lambda p: 0.5), (MaskBlock, lambda p: p)):
        block = DataBlock((ImageBlock, target), get_items=get_image_files, get_y=get_y, item_tfms=Resize(32))
        assert set(Items.from_dls(block.dataloaders(shop, bs=2)).labels) == {None}


def test_several_labels_come_back_as_several(shop):
    import pandas as pd
    from fastai.vision.all import ImageDataLoaders, Resize

    df = pd.DataFrame({"name": ["cat/a.jpg", "dog/b.jpg", "dog/c.jpg"], "label": ["x;y", "y", "z"]})
    dls = ImageDataLoaders.from_df(
        df, shop, valid_pct=0.34, seed=1, label_delim=";", item_tfms=Resize(32), bs=1
    )
    again = Items.from_dls(dls).dataloaders()
    assert list(again.vocab) == ["x", "y", "z"]


def test_a_label_func_may_return_numbers(shop):
    assert set(Items.from_folder(shop, lambda p: len(p.name)).labels) == {"5"}


def test_small_datasets_make_a_batch(shop):
    xb, _ = Items.from_folder(shop).dataloaders().one_batch()
    assert len(xb) == 7


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_are_listed_not_opened(shop):
    os.mkfifo(shop / "pipe.jpg")
    items = Items.from_folder(shop)
    assert len(items) == 8 and [(u.path.name, u.error) for u in items.unreadable] == [
        ("pipe.jpg", "not a regular file")
    ]


def test_names_seen_from_a_folder_are_what_relpath_says(tmp_path, monkeypatch):
    from imgclean.dataset.items import relative_names

    monkeypatch.chdir(tmp_path)
    top = tmp_path / "a b"
    paths = [
        top / "c/d.jpg",
        tmp_path / "a bc/d.jpg",
        top / "../e.jpg",
        Path("a b/f.jpg"),
        Path("g.jpg"),
        top,
    ]
    expected = [Path(os.path.relpath(p, top)).as_posix() for p in paths]
    assert relative_names(paths, top) == relative_names(paths, Path("a b")) == expected
    assert expected[:3] == ["c/d.jpg", "../a bc/d.jpg", "../e.jpg"]
    assert relative_names([top / "f.jpg"], Path("/")) == [str(top / "f.jpg")[1:]]


def test_a_list_of_paths_keeps_its_order(shop):
    paths = [shop / "dog/b.jpg", str(shop / "cat/a.jpg")]
    items = Items.from_paths(paths)
    assert [items.relpath(k) for k in range(2)] == ["dog/b.jpg", "cat/a.jpg"] and items.root == shop
    assert items.labels == items.splits == (None, None)
    assert Items.from_paths(paths[:1]).root == shop / "dog"
    with pytest.raises(ValueError, match="the list of paths is empty"):
        Items.from_paths([])
