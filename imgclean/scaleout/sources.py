"""Where the images of a large run lie: a folder, a bucket, WebDataset tars, parquet of bytes. Reads them piece by piece, by id."""

from __future__ import annotations

import os
import tarfile
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from ..dataset.archives import DAMAGE, ENDINGS, expand, is_image_member
from ..dataset.folders import wanted
from ..dataset.items import Items

IMAGES, TARS, PARQUET = "images", "tars", "parquet"
TAR_ENDINGS = tuple(ending for ending in ENDINGS if ending != ".zip")
IMAGE_COLUMNS = ("image", "bytes", "image_bytes", "img", "jpg", "jpeg", "png", "webp", "content", "data")
ID_COLUMNS = ("id", "key", "__key__", "path", "file_name", "filename", "name", "url")
AHEAD = 16  # files read at the same time from a bucket, which answers late, but many at once
GIVE = "give a folder of images, of tars or of parquet files, one of these files, or a file://, s3:// or gs:// address of them"


class Raw(NamedTuple):
    "An image as it lies in the source"

    id: str
    data: bytes | None
    error: str = ""  # why there are no bytes


@dataclass(frozen=True)
class Source:
    "A place that holds images, and the names of its files"

    given: str  # what was asked for, absolute
    uri: str  # what names are relative to: the absolute path of a folder, or an address
    kind: str  # IMAGES, TARS or PARQUET
    names: tuple[str, ...]  # sorted
    unreadable: Mapping[str, str] = field(default_factory=dict)  # id -> reason, of what could not be listed

    def units(
        self,
        size: int,  # images in a unit, where they are files of their own
        done: Collection[str] = (),  # ids that need not be read
        finished: Collection[str] = (),  # names of tars that need not be read
    ) -> list[dict]:
        "Pieces of work, each read by one worker, without what is done; dicts that Arrow can hold."
        if self.kind == IMAGES:
            left = [name for name in self.names if name not in done]
            return [self._unit(names=left[k : k + size]) for k in range(0, len(left), size)]
        if self.kind == TARS:
            of_tar: dict[str, list[str]] = {name: [] for name in self.names if name not in finished}
            for known in done:
                if (name := tar_of(known)) in of_tar:
                    of_tar[name].append(known)
            return [self._unit(name=name, done=sorted(ids)) for name, ids in of_tar.items()]
        return [unit for name in self.names for unit in self._row_groups(name, done)]

    def _unit(
        self, *, names: Iterable[str] = (), name: str = "", group: int = 0, done: Iterable[str] = ()
    ) -> dict:
        return {
            "uri": self.uri, "kind": self.kind, "names": list(names), "name": name, "group": group,
            "done": list(done),
        }  # fmt: skip

    def _row_groups(self, name: str, done: Collection[str]) -> Iterator[dict]:
        fs, root = filesystem(self.uri)
        with pq.ParquetFile(_join(root, name), filesystem=fs) as file:
            _columns(file.schema_arrow, name)  # raises before the long work
            for group in range(file.num_row_groups):
                ids = _ids(file, name, group) if done else []
                known = [one for one in ids if one in done]
                if not ids or len(known) < len(ids):
                    yield self._unit(name=name, group=group, done=known)


def find_source(
    source: str | os.PathLike,
    include: str | Iterable[str] = (),  # patterns of names, see `folders.wanted`
    exclude: str | Iterable[str] = (),
) -> Source:
    """The `Source` at a path or an address; of several kinds of files in a folder images count, then tars, then parquet.

    Raises `FileNotFoundError` where nothing is, `ValueError` where no images are.
    """
    given = os.fspath(source)
    if "://" not in given:
        given = os.path.abspath(given)
    elif isinstance((place := filesystem(given))[0], pafs.LocalFileSystem):
        given = place[1]
    shards = _named_shards(given)
    if shards:
        return shards
    if os.path.isdir(given):
        try:
            return _local_images(given, include, exclude)
        except ValueError:  # no images, so perhaps tars
            if not any(Path(given).rglob("*" + ending) for ending in (*TAR_ENDINGS, ".parquet")):
                raise
    return _listed(given, wanted(include, exclude))


def _local_images(given: str, include, exclude) -> Source:
    "The same images under the same names as on one machine."
    items = Items.from_folder(given, include=include, exclude=exclude)
    names, bad = [], {}
    for name in map(items.relpath, range(len(items))):
        if _is_text(name):
            names.append(name)
        else:
            bad[_as_text(name)] = "the file's name is not in UTF-8; rename it"
    root = Path(given)
    bad |= {_as_text(Path(os.path.relpath(b.path, root)).as_posix()): b.error for b in items.unreadable}
    return Source(given, given, IMAGES, tuple(sorted(names)), bad)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_text(name: str) -> str:
    return os.fsencode(name).decode(errors="backslashreplace")


def _named_shards(given: str) -> Source | None:
    "What a name such as 'x.parquet' or 'shard-{000..003}.tar' stands for; None where it names no such file."
    address, question, options = given.partition("?") if "://" in given else (given, "", "")
    kind = kind_of(address)
    if kind is None or os.path.isdir(given):
        return None
    names = expand(address)
    parents = {name.rpartition("/")[0] for name in names}
    if len(parents) > 1:
        raise ValueError(f"{given!r} names files in several folders; give files that lie in one")
    [parent] = parents
    return Source(
        given, parent + question + options, kind, tuple(sorted(PurePosixPath(n).name for n in names))
    )


def kind_of(name: str) -> str | None:
    "TARS or PARQUET for the name of such a file."
    name = name.lower()
    return TARS if name.endswith(TAR_ENDINGS) else PARQUET if name.endswith(".parquet") else None


def _listed(given: str, fits: Callable[[str], bool]) -> Source:
    fs, root = filesystem(given)
    try:
        found = fs.get_file_info(pafs.FileSelector(root, recursive=True))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is nothing at {given!r}; {GIVE}") from None
    names = (PurePosixPath(one.path).relative_to(root).as_posix() for one in found if one.is_file)
    names = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    images = sorted(name for name in names if is_image_member(name) and fits(name))
    if images:
        return Source(given, given, IMAGES, tuple(images))
    for kind in (TARS, PARQUET):
        shards = sorted(name for name in names if kind_of(name) == kind and fits(name))
        if shards:
            return Source(given, given, kind, tuple(shards))
    raise ValueError(f"none of the {len(names)} files at {given!r} is or holds an image; {GIVE}")


def filesystem(uri: str) -> tuple[pafs.FileSystem, str]:  # and the path in it
    "Where `uri` is; buckets take options as `?region=` or `?endpoint_override=`, and credentials from their usual places."
    if "://" not in uri:
        return pafs.LocalFileSystem(), uri
    try:
        return pafs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as err:
        raise ValueError(f"{uri!r} cannot be opened ({str(err).splitlines()[0]}); {GIVE}") from None


def tar_of(id: str) -> str | None:
    "The tar that an image of a WebDataset lies in: the first part of its id that is named as one."
    parts = id.split("/")
    ends = (k for k, part in enumerate(parts) if part.lower().endswith(TAR_ENDINGS))
    end = next(ends, None)
    return None if end is None else "/".join(parts[: end + 1])


def read_unit(unit: dict) -> Iterator[Raw]:
    "The images of a unit one after the other; raises `OSError` where a bucket does not answer."
    fs, root = filesystem(unit["uri"])
    if unit["kind"] == IMAGES:
        yield from _files(fs, root, unit["names"])
        return
    known = set(unit["done"])
    raws = _members(fs, root, unit["name"]) if unit["kind"] == TARS else _rows(fs, root, unit)
    yield from (raw for raw in raws if raw.id not in known)


def fetch(source: Source, ids: Iterable[str]) -> Iterator[Raw]:
    "The images `ids`, in the order in which the source holds them; reads no more files than it has to."
    ids = set(ids)
    fs, root = filesystem(source.uri)
    if source.kind == IMAGES:
        yield from _files(fs, root, sorted(ids))
    elif source.kind == TARS:
        for name in sorted({tar_of(one) for one in ids} & set(source.names)):
            yield from (raw for raw in _members(fs, root, name) if raw.id in ids)
    else:
        for unit in source.units(0):
            with pq.ParquetFile(_join(root, unit["name"]), filesystem=fs) as file:
                there = not ids.isdisjoint(_ids(file, unit["name"], unit["group"]))
            if there:
                yield from (raw for raw in _rows(fs, root, unit) if raw.id in ids)


def _files(fs: pafs.FileSystem, root: str, names: Iterable[str]) -> Iterator[Raw]:
    local = isinstance(fs, pafs.LocalFileSystem)

    def read(name: str) -> Raw:
        try:
            if local:
                with open(Path(root, name), "rb") as f:
                    return Raw(name, f.read())
            with fs.open_input_file(_join(root, name)) as f:
                return Raw(name, f.read())
        except FileNotFoundError:
            return Raw(name, None, "the file does not exist")
        except PermissionError:
            return Raw(name, None, "no permission to read the file")
        except OSError as err:
            if not local:  # the network's fault, not the image's: a later run reads it
                raise
            return Raw(name, None, (err.strerror or str(err)).lower())

    if local:
        yield from map(read, names)
        return
    left = iter(names)
    with ThreadPoolExecutor(AHEAD) as pool:
        ahead = deque(pool.submit(read, name) for name in islice(left, AHEAD))
        while ahead:
            raw = ahead.popleft().result()
            ahead.extend(pool.submit(read, name) for name in islice(left, 1))
            yield raw


def _members(fs: pafs.FileSystem, root: str, name: str) -> Iterator[Raw]:
    "The images in a tar, read as a stream; what is damaged ends it, and is said under the tar's own name."
    try:
        with (
            fs.open_input_stream(_join(root, name), compression=_packed(name)) as stream,
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            for member in tar:
                if member.isfile() and is_image_member(member.name):
                    yield Raw(f"{name}/{member.name}", tar.extractfile(member).read())
    except FileNotFoundError:
        yield Raw(name, None, "the file does not exist")
    except DAMAGE as err:
        yield Raw(name, None, f"the tar is damaged; what follows is not read ({err})")


def _packed(name: str) -> str | None:
    endings = {".gz": "gzip", ".tgz": "gzip", ".bz2": "bz2"}
    return endings.get(os.path.splitext(name)[1].lower())


def _rows(fs: pafs.FileSystem, root: str, unit: dict) -> Iterator[Raw]:
    "The images in a row group."
    with pq.ParquetFile(_join(root, unit["name"]), filesystem=fs) as file:
        image, _ = _columns(file.schema_arrow, unit["name"])
        ids = _ids(file, unit["name"], unit["group"])
        start = 0
        for batch in file.iter_batches(64, row_groups=[unit["group"]], columns=[image]):
            column = batch.column(batch.schema.names.index(image))
            data = column.field("bytes") if pa.types.is_struct(column.type) else column
            for one, value in zip(ids[start : start + len(batch)], data, strict=True):
                value = value.as_py()
                yield Raw(one, value, "" if value else "there are no bytes")
            start += len(batch)


def _ids(file: pq.ParquetFile, name: str, group: int) -> list[str]:
    "The ids of a row group: from a column of names, else the file's name and the row."
    _, column = _columns(file.schema_arrow, name)
    first = sum(file.metadata.row_group(g).num_rows for g in range(group))
    rows = range(first, first + file.metadata.row_group(group).num_rows)
    if column is None:
        return [f"{name}/{row}" for row in rows]
    given = file.read_row_group(group, columns=[column]).column(0).to_pylist()
    return [f"{name}/{row}" if one is None else str(one) for row, one in zip(rows, given, strict=True)]


def _columns(schema: pa.Schema, name: str) -> tuple[str, str | None]:
    "The columns of the images, as bytes or as Hugging Face holds them, and of the ids."

    def holds_bytes(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0 and holds_bytes(kind.field("bytes").type)
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    able = [one.name for one in schema if holds_bytes(one.type)]
    image = next((column for column in IMAGE_COLUMNS if column in able), able[0] if len(able) == 1 else None)
    if image is None:
        raise ValueError(
            f"{name!r} has the columns {', '.join(schema.names)}, of which none is known to hold the bytes of images; "
            "call it 'image'"
        )
    texts = [one.name for one in schema if pa.types.is_string(one.type) or pa.types.is_large_string(one.type)]
    return image, next((column for column in ID_COLUMNS if column in texts), None)


def _join(root: str, name: str) -> str:
    return f"{root.rstrip('/')}/{name}"
