"""The files of images that have ids: in a folder that all machines see, or fetched from wherever the source is."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ..dataset.folders import folder_label, folder_split
from ..dataset.items import Items
from ..dataset.quarantine import leads_outside
from ..dataset.stored import written_whole
from .tasks import each

PACKED = (".tar", ".parquet")
UNPACKED = "unpacked"


@dataclass(frozen=True)
class Images:
    "Where the files of ids are"

    root: Path | None = None  # a folder, which ids are relative to
    # From a bucket, tars or tables: (id, bytes or None where they cannot be had, …) of each of some ids, in any order.
    fetch: Callable[[Sequence[str]], Iterable[tuple]] | None = None
    # Of tars and tables, which can only be read from end to end: their names, the same of one of them, and which of
    # them an image is in, None where its id does not tell.
    shards: tuple[str, ...] = ()
    fetch_from: Callable[[str, Sequence[str]], Iterable[tuple]] | None = None
    shard_of: Callable[[str], str | None] | None = None
    unpacked: Path | None = None  # a folder that all machines see, with what was fetched from shards

    @contextmanager
    def items(self, ids: Sequence[str]) -> Iterator[Items]:
        "The images `ids`, in that order, as files; those of no folder are there for the time of the block."
        if self.root is not None:
            yield items_of(ids, self.root, ids)
            return
        if self.unpacked is not None:
            yield items_of(ids, self.unpacked, list(map(place_of, ids)))
            return
        with tempfile.TemporaryDirectory(prefix="imgclean-") as folder:
            place = {name: f"{k:06}{PurePosixPath(name).suffix}" for k, name in enumerate(ids)}
            for name, data, *_ in self.fetch(ids):
                if data is not None:  # whoever opens it will say that it is gone
                    Path(folder, place[name]).write_bytes(data)
            yield items_of(ids, Path(folder), [place[name] for name in ids])


def unpack(images: Images, ids: Sequence[str], folder: Path) -> Images:
    "The same with the images `ids` in `folder`, where they lie in shards: each shard is read once, by one task."
    if not images.shards:
        return images
    left: dict[str | None, list[str]] = {}
    for name in ids:
        if not (folder / place_of(name)).exists():
            left.setdefault(images.shard_of(name), []).append(name)
    unknown = left.pop(None, [])
    jobs = ((shard, left.get(shard, []) + unknown) for shard in images.shards if unknown or shard in left)
    for _ in each(_unpack, jobs, images, folder):
        pass
    return replace(images, unpacked=folder)


def _unpack(shard: str, ids: list[str], images: Images, folder: Path) -> None:
    for name, data, *_ in images.fetch_from(shard, ids):
        if data is not None:
            path = folder / place_of(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as f:
                f.write(data)


def items_of(ids: Sequence[str], root: Path, names: Sequence[str]) -> Items:
    "Items at `names` below `root`, with the labels and splits that the folders of their ids tell."
    folders = [_folders(name) for name in ids]
    return Items(
        tuple(root / name for name in names), tuple(map(folder_label, folders)), tuple(map(folder_split, folders)), root
    )  # fmt: skip


def _folders(name: str) -> list[str]:
    "Of an id; those within a shard alone, since the shard's own name says nothing of an image."
    folders = name.split("/")[:-1]
    packed = [k for k, folder in enumerate(folders) if folder.endswith(PACKED)]
    return folders[packed[-1] + 1 :] if packed else folders


def place_of(name: str) -> str:
    "Where a fetched image lies: its id, or a digest of an id that leads elsewhere."
    if not leads_outside(name):
        return name
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest() + PurePosixPath(name).suffix
