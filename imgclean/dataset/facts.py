"""What is known of an image without a model, measured when it is asked for; and which images are protected."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from .images import UnreadableImage, frame_counts, metadata, open_image
from .items import Items
from .pixels import SIDE_OF_SHARPNESS, sharpness

NAMED = 5  # files that a note names
_EXIF_TIME = "%Y:%m:%d %H:%M:%S"
_TIME_TAGS = (0x9003, 0x9004, 0x0132)  # taken, digitised, changed


class Facts(Mapping):
    """What is known of one image: `path`, `name`, `label`, `split`, `width`, `height`, `bytes`, `sharpness`,
    `metadata` (number of EXIF entries), `time` (a `datetime`: EXIF's, else the file's) and `time_from` ("EXIF" or "file").

    Each is measured when it is first asked for. Of a file that cannot be read the numbers are 0.
    """

    def __init__(self, items: Items, k: int):
        self._items, self._k, self._known = items, k, {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            self._known |= _MEASURES[name](self._items, self._k)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_MEASURES)

    def __len__(self) -> int:
        return len(_MEASURES)

    def __repr__(self) -> str:
        return f"Facts({self['name']!r})"


def _size(items: Items, k: int) -> dict:
    return dict(zip(("width", "height"), items.size(k), strict=True))


def _sharpness(items: Items, k: int) -> dict:
    try:
        return {"sharpness": sharpness(open_image(items.paths[k], SIDE_OF_SHARPNESS))}
    except UnreadableImage:
        return {"sharpness": 0.0}


def _exif(items: Items, k: int) -> dict:
    try:
        tags = metadata(items.paths[k])
    except UnreadableImage:
        tags = {}
    taken = next((time for tag in _TIME_TAGS if (time := _parsed(tags.get(tag)))), None)
    return {
        "metadata": len(tags),
        "time": taken or _file_time(items.paths[k]),
        "time_from": "EXIF" if taken else "file",
    }


def _parsed(text: object) -> datetime | None:
    try:
        return datetime.strptime(str(text).strip(" \0"), _EXIF_TIME)
    except ValueError:  # absent, or "0000:00:00 00:00:00" as cameras without a clock write
        return None


def _file_time(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime)
    except (OSError, ValueError, OverflowError):
        return datetime.fromtimestamp(0)


_MEASURES: dict[str, Callable[[Items, int], dict]] = {
    "path": lambda items, k: {"path": items.paths[k]},
    "name": lambda items, k: {"name": items.relpath(k)},
    "label": lambda items, k: {"label": items.labels[k]},
    "split": lambda items, k: {"split": items.splits[k]},
    "width": _size,
    "height": _size,
    "bytes": lambda items, k: {"bytes": items.n_bytes(k)},
    "sharpness": _sharpness,
    "metadata": _exif,
    "time": _exif,
    "time_from": _exif,
}


def with_frames_noted(items: Items) -> Items:
    "`items` with a note that names those of several frames or pages, where there are any."
    counts = frame_counts(items.paths)
    if not counts:
        return items
    named = [f"{items.relpath(k)} ({n})" for k, n in list(counts.items())[:NAMED]]
    more = ", …" if len(counts) > NAMED else ""
    note = f"{len(counts)} files hold several frames, of which the first alone is looked at: {', '.join(named)}{more}"
    return replace(items, notes=(*items.notes, note))


def protected_items(
    items: Items,
    protect: str | os.PathLike | Iterable[str | os.PathLike],  # files and folders; relative: to `items.root`
) -> frozenset[int]:
    "Items that are one of the files `protect` or lie in one of its folders; `ValueError` for a path that holds none."
    protect = [protect] if isinstance(protect, (str, os.PathLike)) else list(protect)
    meant: dict[str, set[int]] = {}  # file or folder -> which of `protect` may be that
    for n, path in enumerate(protect):
        for whole in (items.root / path, path):
            meant.setdefault(_place(whole), set()).add(n)
    found, there = set(), set()
    for k, path in enumerate(items.paths):
        for place in _with_folders(_place(path)):
            if place in meant:
                found.add(k)
                there |= meant[place]
    empty = next((path for n, path in enumerate(protect) if n not in there), None)
    if empty is not None:
        raise ValueError(
            f"protect names {os.fspath(empty)!r}, where none of the images lies; "
            f"give files or folders, relative to {str(items.root)!r} or absolute"
        )
    return frozenset(found)


def _place(path: str | os.PathLike) -> str:
    return os.path.normcase(os.path.abspath(path))


def _with_folders(place: str) -> Iterator[str]:
    while True:
        yield place
        place, below = os.path.dirname(place), place
        if place == below:
            return
