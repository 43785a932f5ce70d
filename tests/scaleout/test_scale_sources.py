"""The same images under the same names, wherever they lie."""

import io
import tarfile
from pathlib import Path

import pytest
from pictures import picture, write_pictures

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed; pip install 'imgclean[ray]'")
pafs = pytest.importorskip("pyarrow.fs")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed; pip install 'imgclean[ray]'")

from imgclean.dataset.items import Items  # noqa: E402
from imgclean.scaleout import sources  # noqa: E402
from imgclean.scaleout.sources import Raw, fetch, find_source, read_unit, tar_of  # noqa: E402

NAMES = [f"{'ab'[k % 2]}/{k}.png" for k in range(10)]


@pytest.fixture
def folder(tmp_path):
    write_pictures(tmp_path / "set", NAMES, range(10))
    return tmp_path / "set"


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    "Addresses that a file system answers which is none of this machine's own."
    base = tmp_path.as_posix()
    inside = pafs.SubTreeFileSystem(base, pafs.LocalFileSystem())
    own = sources.filesystem

    def filesystem(uri: str):
        return (inside, uri.removeprefix("s3://")) if uri.startswith("s3://") else own(uri)

    monkeypatch.setattr(sources, "filesystem", filesystem)
    return lambda path: "s3://" + Path(path).relative_to(tmp_path).as_posix()


def read(source, **kwargs) -> dict[str, Raw]:
    raws = [raw for unit in source.units(4, **kwargs) for raw in read_unit(unit)]
    assert len({raw.id for raw in raws}) == len(raws)
    return {raw.id: raw for raw in raws}


def write_tar(path: Path, folder: Path, names: list[str], mode: str = "w") -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name in names:
            tar.add(folder / name, name)
            label = tarfile.TarInfo(name.replace(".png", ".cls"))
            label.size = 1
            tar.addfile(label, io.BytesIO(b"7"))
    return path


def write_parquet(file: Path, folder: Path, names: list[str], **columns) -> Path:
    file.parent.mkdir(exist_ok=True)
    data = [(folder / name).read_bytes() for name in names]
    pq.write_table(pa.table({"image": data} | columns), file, row_group_size=3)
    return file


def test_a_folder_has_the_names_of_one_machine(folder, bucket):
    (folder / ".hidden.png").write_bytes(b"x")
    (folder / "notes.txt").write_text("x")
    items = Items.from_folder(folder)
    expected = {items.relpath(k): items.paths[k].read_bytes() for k in range(len(items))}
    for given in (folder, str(folder), folder.as_uri(), bucket(folder)):
        source = find_source(given)
        assert source.kind == "images" and set(source.names) == set(NAMES)
        assert {name: raw.data for name, raw in read(source).items()} == expected


def test_only_what_fits_is_read(folder, bucket):
    for given in (folder, folder.as_uri(), bucket(folder)):
        assert set(find_source(given, include="a").names) == set(NAMES[::2])
        assert set(find_source(given, exclude=["a/*"]).names) == set(NAMES[1::2])


def test_what_is_done_is_not_read_again(folder):
    source = find_source(folder)
    assert set(read(source, done=set(NAMES[:7]))) == set(NAMES[7:])
    assert not source.units(4, done=set(NAMES))


def test_a_file_that_is_gone_is_named(folder, bucket):
    both = [find_source(folder), find_source(bucket(folder))]
    (folder / NAMES[3]).unlink()
    for source in both:
        assert read(source)[NAMES[3]] == Raw(NAMES[3], None, "the file does not exist")


def test_names_that_are_no_text_are_listed(folder):
    try:
        (folder / "caf\udce9.png").write_bytes((folder / NAMES[0]).read_bytes())
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    source = find_source(folder)
    assert set(source.names) == set(NAMES)
    assert list(source.unreadable) == ["caf\\xe9.png"] and "UTF-8" in source.unreadable["caf\\xe9.png"]


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_tars_of_a_web_dataset(folder, tmp_path, ending, bucket):
    shards = tmp_path / "shards"
    mode = "w:gz" if ending == ".tar.gz" else "w"
    write_tar(shards / f"s-000{ending}", folder, NAMES[:6], mode)
    write_tar(shards / f"s-001{ending}", folder, NAMES[6:], mode)
    expected = {
        f"s-{int(k > 5):03}{ending}/{name}": (folder / name).read_bytes() for k, name in enumerate(NAMES)
    }
    pattern = f"{shards}/s-{{000..001}}{ending}"
    for given in (shards, shards.as_uri(), pattern, bucket(shards), bucket(pattern)):
        source = find_source(given)
        assert source.kind == "tars"
        assert {name: raw.data for name, raw in read(source).items()} == expected
    one = find_source(shards / f"s-001{ending}")
    assert set(read(one)) == {name for name in expected if name.startswith("s-001")}
    done = set(list(expected)[:8])
    assert set(read(source, done=done)) == set(expected) - done
    assert set(read(source, finished={f"s-000{ending}"})) == {n for n in expected if n.startswith("s-001")}
    some = [list(expected)[k] for k in (8, 2)]
    assert {raw.id: raw.data for raw in fetch(source, some)} == {name: expected[name] for name in some}


def test_a_damaged_tar_is_named_and_the_others_are_read(folder, tmp_path):
    shards = tmp_path / "shards"
    write_tar(shards / "good.tar", folder, NAMES[:5])
    bad = write_tar(shards / "bad.tar", folder, NAMES[5:])
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 3])
    raws = read(find_source(shards))
    assert {f"good.tar/{name}" for name in NAMES[:5]} <= set(raws)
    assert raws["bad.tar"].data is None and "damaged" in raws["bad.tar"].error


def test_the_tar_of_an_id():
    assert tar_of("sub/x.tar/a/b.tar.png") == "sub/x.tar"
    assert tar_of("x.TGZ/a.png") == "x.TGZ" and tar_of("a/b.png") is None


def test_parquet_of_bytes(folder, tmp_path, bucket):
    tables = tmp_path / "tables"
    write_parquet(tables / "0.parquet", folder, NAMES[:7])
    write_parquet(tables / "1.parquet", folder, NAMES[7:])
    expected = {
        f"{int(k > 6)}.parquet/{k - 7 * (k > 6)}": (folder / name).read_bytes()
        for k, name in enumerate(NAMES)
    }
    for given in (tables, tables.as_uri(), bucket(tables)):
        source = find_source(given)
        assert source.kind == "parquet"
        assert {name: raw.data for name, raw in read(source).items()} == expected
    done = set(list(expected)[:4])
    assert set(read(source, done=done)) == set(expected) - done
    assert len(source.units(4, done=done)) == len(source.units(4)) - 1, (
        "a row group that is done is not opened"
    )
    some = [list(expected)[k] for k in (8, 2)]
    assert {raw.id: raw.data for raw in fetch(source, some)} == {name: expected[name] for name in some}


def test_parquet_as_hugging_face_writes_it_with_names(folder, tmp_path):
    data = [{"bytes": (folder / name).read_bytes(), "path": None} for name in NAMES]
    table = pa.table({"image": data, "path": NAMES, "label": list(range(10))})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=4)
    source = find_source(tmp_path / "x.parquet")
    assert {name: raw.data for name, raw in read(source).items()} == {
        name: (folder / name).read_bytes() for name in NAMES
    }
    assert [raw.id for raw in fetch(source, [NAMES[9]])] == [NAMES[9]]


def test_images_of_a_folder_are_fetched(folder, bucket):
    for given in (folder, bucket(folder)):
        assert list(fetch(find_source(given), [NAMES[2], "gone.png"])) == [
            Raw(NAMES[2], (folder / NAMES[2]).read_bytes()),
            Raw("gone.png", None, "the file does not exist"),
        ]


def test_a_bucket_that_does_not_answer_is_no_fault_of_an_image(folder, bucket):
    here, there = find_source(folder), find_source(bucket(folder))
    (folder / NAMES[3]).unlink()
    (folder / NAMES[3]).mkdir()  # opened, it fails as a broken connection does
    assert read(here)[NAMES[3]].error
    with pytest.raises(OSError):
        read(there)


def test_what_is_no_source_is_said(tmp_path, bucket):
    with pytest.raises((FileNotFoundError, NotADirectoryError), match="nowhere"):
        find_source(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nothing at 's3://"):
        find_source(bucket(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    for given in (tmp_path / "empty", bucket(tmp_path / "empty")):
        with pytest.raises(ValueError, match="image"):
            find_source(given)
    with pytest.raises(ValueError, match="cannot be opened"):
        find_source("nonsense://bucket/x")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="call it 'image'"):
        find_source(tmp_path / "x.parquet").units(4)


def test_bytes_open_as_files_do(tmp_path):
    from imgclean.dataset.images import UnreadableImage, open_image
    from imgclean.scaleout.looking import Named

    data = io.BytesIO()
    picture(1).save(data, "png")
    assert open_image(Named(Raw("a.png", data.getvalue()))).tobytes() == picture(1).tobytes()
    for name in ("x.heic", "x.png"):
        (tmp_path / name).write_bytes(b"no image at all")
        with pytest.raises(UnreadableImage) as of_file:
            open_image(tmp_path / name)
        with pytest.raises(UnreadableImage) as of_bytes:
            open_image(Named(Raw(f"a/{name}", b"no image at all")))
        assert str(of_file.value) == str(of_bytes.value)
