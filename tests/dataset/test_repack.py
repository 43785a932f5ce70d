import json
from dataclasses import replace

import pytest
from packing import jpeg, pack, unpacked

from imgclean.dataset import repack
from imgclean.dataset.sources import read_source

CAT, DOG = jpeg(1), jpeg(2)
PLAIN = {"readme.md": b"hi", "cat/1.jpg": CAT, "cat/2.jpg": jpeg(3), "cat/2.xml": b"box", "dog/1.jpg": DOG}


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "zip"])
def test_what_stays_is_copied_byte_by_byte_and_new_labels_are_folders(tmp_path, ending):
    path = pack(tmp_path / f"in.{ending}", PLAIN)
    was, items = path.read_bytes(), read_source(path)
    clean = replace(items, labels=("dog", "cat", "dog")).subset([0, 2])
    out = clean.to_archive(tmp_path / f"new/out.{ending}")
    assert unpacked(out) == {"readme.md": b"hi", "dog/1-2.jpg": CAT, "dog/1.jpg": DOG}
    assert path.read_bytes() == was and read_source(out).labels == ("dog", "dog")
    assert items.to_archive(tmp_path / f"all.{ending}") and unpacked(tmp_path / f"all.{ending}") == PLAIN
    assert list(clean.as_source().columns) == ["name", "label", "split"] and clean.dropped() == [1]


def test_samples_of_shards_stay_whole_and_their_labels_are_rewritten(tmp_path):
    files = {
        "0.jpg": CAT,
        "0.cls": b"3",
        "1.jpg": DOG,
        "1.json": b'{"label": 4, "x": 1}',
        "2.jpg": CAT,
        "2.txt": b"a",
    }
    for k in range(2):
        pack(tmp_path / f"s-{k}.tar", files)
    items = read_source(str(tmp_path / "s-{0..1}.tar"))
    labels = ("5", "6", "a", "3", "4", "b")
    out = replace(items, labels=labels).subset([0, 1, 5]).to_archive(tmp_path / "out")
    first, second = (unpacked(out / f"s-{k}.tar") for k in range(2))
    assert json.loads(first.pop("1.json")) == {"label": 6, "x": 1}
    assert first == {"0.jpg": CAT, "0.cls": b"5", "1.jpg": DOG} and second == {"2.jpg": CAT, "2.txt": b"b"}
    assert read_source(str(out / "s-{0..1}.tar")).labels == ("5", "6", "b")


def test_long_names_survive(tmp_path):
    name = "x" * 120 + "/" + "y" * 120 + ".jpg"
    items = read_source(pack(tmp_path / "in.tar", {name: CAT, "a.jpg": DOG}))
    out = replace(items, labels=("z", None)).to_archive(tmp_path / "out.tar")
    assert unpacked(out) == {"z/" + "y" * 120 + ".jpg": CAT, "a.jpg": DOG}


def test_nothing_is_overwritten_and_what_cannot_be_is_said(tmp_path, shop):
    path = pack(tmp_path / "in.tar", PLAIN)
    items = read_source(path)
    with pytest.raises(FileExistsError, match="is there already"):
        items.to_archive(path)
    with pytest.raises(ValueError, match="is a tar; give a name"):
        items.to_archive(tmp_path / "out.zip")
    with pytest.raises(ValueError, match="come from no archive"):
        read_source(shop).to_archive(tmp_path / "out.tar")
    with pytest.raises(ValueError, match="is a tar; give a name"):
        items.to_archive(tmp_path / "out.gz")  # which would not be taken for an archive
    pack(path, PLAIN | {"more.jpg": CAT})
    with pytest.raises(ValueError, match="has changed since it was read"):
        items.to_archive(tmp_path / "out.tar")
    assert not list(tmp_path.glob("*out*"))


def relabelled(tmp_path, files, labels):
    items = read_source(pack(tmp_path / "in.tar", files))
    return replace(items, labels=tuple(labels)).to_archive(tmp_path / "out.tar")


@pytest.mark.parametrize("label", ["x" * 65, "0 1 2", "a\nb", " a"])
def test_a_label_that_would_not_be_read_again_is_refused(tmp_path, label):
    with pytest.raises(ValueError, match=r"in '1.txt' would not be read as a label"):
        relabelled(tmp_path, {"1.jpg": CAT, "1.txt": b"cat"}, [label])
    assert [p.name for p in tmp_path.iterdir()] == ["in.tar"]


def test_images_of_one_sample_have_one_label(tmp_path):
    files = {"1.jpg": CAT, "1.mask.png": DOG, "1.cls": b"3"}
    assert read_source(relabelled(tmp_path, files, ["4", "4"])).labels == ("4", "4")
    (tmp_path / "out.tar").unlink()
    with pytest.raises(ValueError, match=r"'1.cls' is to hold several labels"):
        relabelled(tmp_path, files, ["4", "5"])


def test_the_key_that_held_the_label_and_no_other_gets_the_new_one(tmp_path):
    about = {"label": [1, 2], "class": 3, "category": "x"}
    for label in ("007", "7", "-0", "bird", "²"):
        out = relabelled(tmp_path, {"1.jpg": CAT, "1.json": json.dumps(about).encode()}, [label])
        assert read_source(out).labels == (label,)
        value = 7 if label == "7" else label
        assert json.loads(unpacked(out)["1.json"]) == about | {"class": value}
        out.unlink()


def test_an_archive_that_changes_while_it_is_copied_gives_none(tmp_path, monkeypatch):
    path = pack(tmp_path / "in.tar", PLAIN)
    items, members = read_source(path), repack.members

    def changing(archive, name):
        yield from members(archive, name)
        pack(path, PLAIN | {"more.jpg": CAT})

    monkeypatch.setattr(repack, "members", changing)
    with pytest.raises(ValueError, match="has changed since it was read"):
        items.to_archive(tmp_path / "out.tar")
    assert [p.name for p in tmp_path.iterdir()] == ["in.tar"]
