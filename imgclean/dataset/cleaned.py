"""Decisions into files: the append-only ledger and `cleaned.csv`.

Nothing else in imgclean writes beside the user's images.
"""

from __future__ import annotations

import csv
import hashlib
import json
import operator
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from .items import Items, relative_to

FOLDER = ".imgclean"  # hidden, so that neither imgclean nor fastai looks for images in it
CSV_NAME = "cleaned.csv"


class Ledger:
    """Every decision of a review, one JSON object a line, appended and synced to disk before it counts.

    A line holds the new values of what it changes, so that the state is the lines' sum:
    `{"version": 2, "do": str, "id": str, "of": id that is undone or redone, "mark": {name: "delete" | "keep" | null},
    "label": {name: str | null}, "from": {name: label in the dataset}, "files": {name: fingerprint},
    "apart": [[names, names of other pictures, true | null], …]}`,
    names relative to the root. A line that a power cut left half-written is ignored.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._read = 0  # bytes

    def lines(self) -> Iterator[dict]:
        "The actions that were recorded since the last call, here or by another review, oldest first."
        if not self.path.exists():
            return
        with open(self.path, "rb") as f:
            f.seek(self._read)
            for text in f:
                if not text.endswith(b"\n"):  # half-written, by a crash or at this moment
                    return
                self._read += len(text)
                try:
                    line = json.loads(text)
                except ValueError:
                    continue
                if isinstance(line, dict):
                    yield line

    def copy_to(self, path: str | os.PathLike) -> None:
        "Write the same lines into another file; none where this ledger has no file yet."
        if self.path.is_file():
            shutil.copyfile(self.path, path)

    def append(self, line: dict) -> None:
        "Write `line` and return when it is on the disk."
        self.path.parent.mkdir(parents=True, exist_ok=True)
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"  # ASCII, whatever the file names hold
        is_new = not self.path.exists()
        with open(self.path, "ab+") as f:
            if f.tell() and _last_byte(f) != b"\n":  # a line cut off by a crash must not swallow this one
                data = b"\n" + data
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        if is_new:
            sync_folder(self.path.parent)  # else a power cut takes the name of a file whose content is safe


def sync_folder(folder: Path) -> None:
    "Return when the names in `folder` are on the disk; Windows has no such call and does without."
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some network drives refuse it for folders; the files themselves are synced
        pass
    finally:
        os.close(handle)


def _last_byte(f) -> bytes:
    f.seek(-1, os.SEEK_END)
    return f.read(1)


def ledger_path(root: Path) -> Path:
    "Where the decisions about the images below `root` are kept."
    return Path(root) / FOLDER / "review.jsonl"


def fingerprint(path: Path) -> list:  # [bytes, mtime_ns, blake2b hex digest]
    "What tells whether the file in `path` is still the one that was decided about."
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, content_digest(path).hex()]


def content_digest(path: Path) -> bytes:  # 16 bytes, BLAKE2b
    "Digest of the bytes in `path`."
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.digest()


def is_unchanged(path: Path, was: list) -> bool:
    "Whether `path` still holds the content whose `fingerprint` was `was`; hashes only if size or time differ."
    try:
        stat = path.stat()
        if [stat.st_size, stat.st_mtime_ns] == list(was[:2]):
            return True
        return stat.st_size == was[0] and fingerprint(path)[2] == was[2]
    except OSError:
        return False


def write_csv(
    items: Items,
    path: str | os.PathLike,  # folder that gets `cleaned.csv`; the names in it are relative to this folder
) -> Path:
    """Path of `cleaned.csv` (columns `name,label`, one row an item), written whole or not at all.

    An existing csv with other content is kept beside the ledger as `cleaned-1.csv`, `cleaned-2.csv`, ….
    """
    folder = Path(path)
    target, new = folder / CSV_NAME, folder / FOLDER / "cleaned.csv.new"
    new.parent.mkdir(parents=True, exist_ok=True)
    with open(new, "w", newline="", encoding="utf-8", errors="surrogateescape") as f:
        rows = csv.writer(f, lineterminator="\n")
        rows.writerow(["name", "label"])
        for k, p in enumerate(items.paths):
            rows.writerow([relative_to(p, folder), items.labels[k] or ""])
        f.flush()
        os.fsync(f.fileno())
    if target.exists() and target.read_bytes() != new.read_bytes():
        os.replace(target, _free_name(new.parent))
    os.replace(new, target)
    return target


def data_deleter(
    path: str | os.PathLike,  # folder that gets `cleaned.csv`
    dataset: Items,
    del_idx: Iterable[int],  # items to leave out
) -> Path:
    """Path of `cleaned.csv` with every item but `del_idx`; no image file is touched. Call shape of fastai v1.

    Raises `ValueError` for an index that is no item's.
    """
    out = set(map(operator.index, del_idx))
    wrong = next((k for k in sorted(out) if not 0 <= k < len(dataset)), None)
    if wrong is not None:
        raise ValueError(f"there is no item {wrong}; items go from 0 to {len(dataset) - 1}")
    return write_csv(dataset.subset([k for k in range(len(dataset)) if k not in out]), path)


def _free_name(folder: Path) -> Path:
    k = 1
    while (kept := folder / f"cleaned-{k}.csv").exists():
        k += 1
    return kept
