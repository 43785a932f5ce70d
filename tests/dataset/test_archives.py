import gzip
import io
import os
import stat
import tarfile
import zipfile

import pytest
from packing import everything, jpeg, pack

from imgclean.dataset import archives
from imgclean.dataset.archives import Refused, expand, label_in
from imgclean.dataset.sources import read_source

FILES = {
    "./photos/cat/1.jpg": jpeg(1),
    "./photos/dog/2.jpg": jpeg(2),
    "./photos/._1.jpg": b"of macOS",
    "./about.txt": b"x",
}


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_archives_are_unpacked_once_and_labelled_by_folder(tmp_path, own_cache, ending):
    path = pack(tmp_path / f"all.{ending}", FILES)
    was = everything(tmp_path)
    items = read_source(path)
    assert [items.relpath(k) for k in range(2)] == ["photos/cat/1.jpg", "photos/dog/2.jpg"]
    assert items.labels == ("cat", "dog") and items.root.is_relative_to(own_cache)
    assert [p.read_bytes() for p in items.paths] == [jpeg(1), jpeg(2)]
    times = [p.stat().st_mtime_ns for p in items.paths]
    again = read_source(os.fspath(path))
    assert again == items and [p.stat().st_mtime_ns for p in again.paths] == times
    assert everything(tmp_path) == was
    own = read_source(path, folder=tmp_path / "here")
    assert {p.name for p in own.paths} == {"1.jpg", "2.jpg"} and own.root == tmp_path / "here"
    assert not [name for name in everything(tmp_path / "here") if name.endswith(("txt", "._1.jpg"))]


def test_webdataset_shards_have_labels_beside_the_images(tmp_path):
    shards = [
        {"a/000.jpg": jpeg(1), "a/000.cls": b"3\n", "a/001.jpg": jpeg(2), "a/001.json": b'{"label": "dog"}'},
        {"000.jpg": jpeg(3), "000.txt": b"hot dog", "001.png": jpeg(4), "001.txt": b"0 0.5 0.5 1 1"},
    ]
    for k, files in enumerate(shards):
        pack(tmp_path / f"shard-{k:03d}.tar", files)
    items = read_source(str(tmp_path / "shard-{000..001}.tar"))
    assert items.labels == ("3", "dog", "hot dog", None)
    assert items.relpath(2) == "shard-001/000.jpg"
    listed = read_source([tmp_path / "shard-000.tar", str(tmp_path / "shard-001.tar")])
    assert listed == items
    parts = read_source({"train": tmp_path / "shard-000.tar", "val": tmp_path / "shard-001.tar"})
    assert parts.splits == ("train", "train", "valid", "valid") and parts.labels == items.labels


@pytest.mark.parametrize(
    ("texts", "label"),
    [
        ({"cls": "", "txt": "cat"}, ("cat", "txt")),
        ({"cls": "1", "txt": "cat"}, ("1", "cls")),
        ({"json": '{"label": 0}'}, ("0", "json")),
        ({"json": '{"label": true}', "txt": "a\nb"}, None),
        ({"json": "[1"}, None),
        ({"txt": "x" * 65}, None),
        ({}, None),
    ],
)
def test_labels_in_the_files_beside_an_image(texts, label):
    assert label_in(texts) == label


def test_patterns_of_names_are_expanded(tmp_path):
    assert expand("s-{08..11}.tar") == ["s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"]
    assert expand("{a,b}-{0..1}.tar") == ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]
    (tmp_path / "{0..1}.tar").touch()
    assert expand(str(tmp_path / "{0..1}.tar")) == [str(tmp_path / "{0..1}.tar")]
    for wrong in ("{2..1}.tar", "{0..99999999999}.tar"):
        with pytest.raises(ValueError, match="counts from"):
            expand(wrong)


def tar_of(path, *infos, size=3):
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as out:
        for name, kind, link in infos:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            info.size = size if name == "evil.jpg" and kind == REG else 3 if kind == REG else 0
            out.addfile(info, io.BytesIO(b"abc") if info.size > 0 else None)
    return path


def zip_of(path, name, mode=stat.S_IFREG, encrypted=False):
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("fine.jpg", jpeg(1))
        info = zipfile.ZipInfo("x")
        info.filename = name
        info.external_attr = (mode | 0o644) << 16
        out.writestr(info, b"abc")
    if encrypted:
        data = bytearray(path.read_bytes())
        for head, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
            data[data.rindex(head) + offset] |= 1
        path.write_bytes(data)
    return path


REG, FINE = tarfile.REGTYPE, ("fine.jpg", tarfile.REGTYPE, "")
HOSTILE = {
    "absolute": lambda p: tar_of(p / "x.tar", FINE, ("/tmp/evil.jpg", REG, "")),
    "parent": lambda p: tar_of(p / "x.tar", FINE, ("a/../../evil.jpg", REG, "")),
    "drive": lambda p: tar_of(p / "x.tar", FINE, ("C:/evil.jpg", REG, "")),
    "backslash": lambda p: tar_of(p / "x.tar", FINE, ("a\\evil.jpg", REG, "")),
    "symlink": lambda p: tar_of(p / "x.tar", FINE, ("evil.jpg", tarfile.SYMTYPE, "/etc/passwd")),
    "hard link": lambda p: tar_of(p / "x.tar", FINE, ("evil.jpg", tarfile.LNKTYPE, "../evil")),
    "device": lambda p: tar_of(p / "x.tar", FINE, ("evil.jpg", tarfile.CHRTYPE, "")),
    "pipe": lambda p: tar_of(p / "x.tar", FINE, ("evil.jpg", tarfile.FIFOTYPE, "")),
    "file and folder": lambda p: tar_of(p / "x.tar", ("a.jpg", REG, ""), ("a.jpg/b/c.jpg", REG, "")),
    "long part": lambda p: tar_of(p / "x.tar", FINE, ("é" * 130 + ".jpg", REG, "")),
    "long name": lambda p: tar_of(p / "x.tar", FINE, ("long/" * 800 + "1.jpg", REG, "")),
    "negative": lambda p: tar_of(p / "x.tar", FINE, ("evil.jpg", REG, ""), size=-5),
    "twice": lambda p: tar_of(p / "x.tar", FINE, FINE),
    "link in a folder's place": lambda p: tar_of(p / "x.tar", ("a", tarfile.SYMTYPE, ".."), ("a/evil.jpg", REG, "")),
    "zip parent": lambda p: zip_of(p / "x.zip", "../evil.jpg"),
    "zip absolute": lambda p: zip_of(p / "x.zip", "/evil.jpg"),
    "zip backslash": lambda p: zip_of(p / "x.zip", "..\\evil.jpg"),
    "zip symlink": lambda p: zip_of(p / "x.zip", "evil.jpg", stat.S_IFLNK),
    "zip encrypted": lambda p: zip_of(p / "x.zip", "evil.jpg", encrypted=True),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_whole(tmp_path, kind):
    (tmp_path / "in").mkdir()
    path = HOSTILE[kind](tmp_path / "in")
    was = everything(tmp_path)
    with pytest.raises(Refused, match=r"nothing of it is used$"):
        read_source(path, folder=tmp_path / "out/images")
    assert everything(tmp_path) == was and not (tmp_path / "out").exists()


def test_what_grows_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "ALWAYS_FINE", 10_000)
    for name in ("bomb.zip", "bomb.tar.gz"):
        path = pack(tmp_path / name, {"a.png": bytes(3_000_000)})
        with pytest.raises(Refused, match=r"more than \d+ files or \d+ bytes"):
            read_source(path)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    with pytest.raises(Refused, match="more than 2 files"):
        read_source(pack(tmp_path / "many.tar", {f"{k}.jpg": jpeg(k) for k in range(3)}))


def test_a_header_of_gigabytes_is_not_read(tmp_path):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**32
    with gzip.open(tmp_path / "x.tar.gz", "wb") as f:
        f.write(info.tobuf(tarfile.GNU_FORMAT))
        f.write(bytes(2**20))
    with pytest.raises(Refused, match="more at once than any header"):
        read_source(tmp_path / "x.tar.gz")


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.zip"])
def test_damage_is_said(tmp_path, name):
    whole = pack(tmp_path / name, FILES).read_bytes()
    for data in (b"", b"no archive", whole[: len(whole) // 2]):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=r"nothing of it is used|no images in"):
            read_source(tmp_path / name, folder=tmp_path / "out")
        assert not (tmp_path / "out").exists()
    with pytest.raises(FileNotFoundError, match="there is no archive"):
        read_source(tmp_path / "nowhere.tar")


@pytest.mark.parametrize("change", ["_listed", "_unpack"])
def test_an_archive_that_changes_while_it_is_read_leaves_nothing(tmp_path, monkeypatch, change):
    path = pack(tmp_path / "x.tar", {"1.jpg": jpeg(1), "2.jpg": jpeg(2)})
    was = getattr(archives, change)

    def changed(*args):
        before = None if change == "_unpack" else was(*args)
        pack(path, {"1.jpg": jpeg(3), "2.jpg": jpeg(4), "3.jpg": jpeg(5)})
        return was(*args) if change == "_unpack" else before

    monkeypatch.setattr(archives, change, changed)
    with pytest.raises(ValueError, match="has changed since it was read; read it again"):
        read_source(path, folder=tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar"]


def test_an_archive_is_read_whole_after_its_unpacked_images_were_moved_out(tmp_path):
    shards = [pack(tmp_path / f"{k}.tar", {"a/1.jpg": jpeg(1), "a/2.jpg": jpeg(2)}) for k in range(2)]
    items = read_source(shards)
    items.paths[3].rename(tmp_path / "moved.jpg")
    (items.root / "0/a").rename(tmp_path / "a")
    again = read_source(shards)
    assert again == items and [p.read_bytes() for p in again.paths] == [jpeg(1), jpeg(2)] * 2
    parts = {"train": shards[0], "valid": shards[1]}
    items = read_source(parts)
    items.paths[3].unlink()
    assert read_source(parts).paths[3].read_bytes() == jpeg(2)


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_a_tar_that_ends_early_is_refused_wherever_that_is(tmp_path, ending):
    path = pack(
        tmp_path / "whole.tar", {"1.jpg": jpeg(1)[:700], "2.jpg": jpeg(2)[:100], "3.jpg": jpeg(3)[:600]}
    )
    whole = path.read_bytes()
    cut = tmp_path / f"cut.{ending}"
    broken = [whole[:size] for size in range(256, 4 * 512 + 1024, 256)]
    broken.append(whole[:1540] + b"x" + whole[1541:])  # in the name of the second file
    for data in broken:
        cut.write_bytes(gzip.compress(data) if ending == "tar.gz" else data)
        with pytest.raises(Refused, match="damaged"):
            read_source(cut, folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_packed_a_tar_vouches_for_it_to_its_end(tmp_path):
    path = pack(tmp_path / "x.tar.gz", {"1.jpg": jpeg(1)})
    whole = path.read_bytes()
    for data in (whole[:-6], whole[:-8] + bytes(8)):
        path.write_bytes(data)
        with pytest.raises(Refused, match="damaged"):
            read_source(path)
