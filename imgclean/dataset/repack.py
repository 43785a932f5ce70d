"""A clean archive: the members of the one that was read, without the images that were left out, in the folders of new labels."""

from __future__ import annotations

import copy
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .archives import (
    Archives,
    Member,
    Shard,
    content,
    is_archive,
    key_of_member,
    label_in,
    label_key,
    members,
    opened,
    refuse_changed,
)
from .items import Items
from .kept import place_folder
from .origin import rows_of
from .outputs import free_name, name_by_label
from .stored import written_whole

MODES = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}
STALE = ("path", "size", "linkpath")  # of a PAX header: they would win over the new name and size


def write_archive(
    items: Items,
    path: str | os.PathLike,  # a new file of the same kind; of several archives a folder, new or empty
) -> Path:
    """A copy of the archives that `items` came from, without the images that are not among them, byte by byte.

    With an image go the files of its key. A new label moves an image to its folder, or is written to the file beside it
    that held the old one. Nothing is overwritten. Raises `ValueError` where the items came from no archive, or it has changed.
    """
    origin, target = items.origin, Path(path)
    if not isinstance(origin, Archives):
        raise ValueError("these Items come from no archive; use .to_folder() or .as_source()")
    if os.path.lexists(target) and not (
        len(origin.shards) > 1 and target.is_dir() and not any(target.iterdir())
    ):
        raise FileExistsError(f"{str(path)!r} is there already; give a new name")
    refuse_changed(origin.shards)
    if len(origin.shards) == 1:
        _check_kind(origin.shards[0].path, target)
        _write(items, origin, 0, target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        for s, shard in enumerate(origin.shards):
            _write(items, origin, s, _free(new / shard.path.name, s))
        new.chmod(0o755)  # mkdtemp's folders are for their owner alone
        place_folder(new, target)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return target


def _check_kind(source: Path, target: Path) -> None:
    is_zip = source.suffix.lower() == ".zip"
    if (target.suffix.lower() == ".zip") != is_zip or not is_archive(target):
        raise ValueError(
            f"{str(source)!r} is a {'zip' if is_zip else 'tar'}; give a name with such an ending, not {target.name!r}"
        )


def _free(path: Path, s: int) -> Path:
    return path.with_name(f"{s}-{path.name}") if path.exists() else path


def _write(items: Items, origin: Archives, s: int, target: Path) -> None:
    shard, rows = origin.shards[s], list(rows_of(items))
    kept = {origin.members[row][1] for row in rows if origin.members[row][0] == s}
    labels = {origin.members[row][1]: new for row, new in origin.relabeled(items).items()}
    labels = {name: new for name, new in labels.items() if name in kept}
    images = set(shard.images)
    gone = set(map(key_of_member, images)) - set(map(key_of_member, kept))  # no image of the key stays
    names, texts = _changes(shard, labels, {name.lower() for name in kept})
    with opened(shard.path) as source, _new_archive(target) as out:
        for member in members(source, shard.path):
            if member.name in images - kept or key_of_member(member.name) in gone:
                continue
            with content(source, member) as file:
                data = texts.get(member.name) or file.read()
            _add(out, member, names.get(member.name, member.name), data)
        refuse_changed([shard])


def _changes(
    shard: Shard, labels: dict[str, str], taken: set[str]
) -> tuple[dict[str, str], dict[str, bytes]]:
    "New names of members, and new contents of those that hold labels."
    names, texts = {}, {}
    for name, label in labels.items():
        beside = shard.sidecars.get(key_of_member(name), {})
        found = label_in(beside)
        if found is None:
            names[name] = free_name(name_by_label(name, label), taken)
        else:
            ending = found[1]
            holder = f"{key_of_member(name)}.{ending}"
            text = _text(ending, beside[ending], label)
            if label_in(beside | {ending: text.decode()}) != (label, ending):
                raise ValueError(f"{label!r} in {holder!r} would not be read as a label; give another one")
            if texts.setdefault(holder, text) != text:
                raise ValueError(f"{holder!r} is to hold several labels; give all images of it the same one")
    return names, texts


def _text(ending: str, was: str, label: str) -> bytes:
    if ending != "json":
        return label.encode()
    about = json.loads(was)
    key = label_key(about)
    number = isinstance(about[key], int) and re.fullmatch(r"0|-?[1-9][0-9]*", label)
    return json.dumps(about | {key: int(label) if number else label}).encode()


@contextmanager
def _new_archive(target: Path) -> Iterator[tarfile.TarFile | zipfile.ZipFile]:
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(target) as f:
        if target.suffix.lower() == ".zip":
            with zipfile.ZipFile(f, "w") as out:
                yield out
        else:
            with tarfile.open(fileobj=f, mode=MODES[target.suffix.lower()]) as out:
                yield out


def _add(out: tarfile.TarFile | zipfile.ZipFile, member: Member, name: str, data: bytes) -> None:
    info = copy.copy(member.info)
    if isinstance(out, zipfile.ZipFile):
        info.filename = name
        out.writestr(info, data)
        return
    info.name, info.size = name, len(data)
    info.pax_headers = {key: value for key, value in info.pax_headers.items() if key not in STALE}
    file: IO[bytes] = io.BytesIO(data)
    out.addfile(info, file)
