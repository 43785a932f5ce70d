"""The files of images that have ids: in a folder that all machines see, or fetched from wherever the source is."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..dataset.folders import folder_label, folder_split
from ..dataset.items import Items
from ..dataset.quarantine import leads_outside

PACKED = (".tar", ".parquet")


@dataclass(frozen=True)
class Images:
    "Where the files of ids are"

    root: Path | None = None  # a folder, which ids are relative to
    # From a bucket, tars or tables: (id, bytes or None where they cannot be had, …) of each of some ids, in any order.
    fetch: Callable[[Sequence[str]], Iterable[tuple]] | None = None

    @contextmanager
    def items(self, ids: Sequence[str]) -> Iterator[Items]:
        "The images `ids`, in that order, as files; those of no folder are there for the time of the block."
        if self.root is not None:
            yield items_of(ids, self.root, ids)
            return
        with tempfile.TemporaryDirectory(prefix="imgclean-") as folder:
            place = {name: f"{k:06}{PurePosixPath(name).suffix}" for k, name in enumerate(ids)}
            for name, data, *_ in self.fetch(ids):
                if data is not None:  # whoever opens it will say that it is gone
                    Path(folder, place[name]).write_bytes(data)
            yield items_of(ids, Path(folder), [place[name] for name in ids])


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
