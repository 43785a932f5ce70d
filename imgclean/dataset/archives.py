"""`Items` from tar, zip and WebDataset shards. A hostile archive is refused whole, before anything of it is written."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, NamedTuple

from .cleaned import fingerprint, is_unchanged
from .folders import folder_label, folder_split
from .images import image_extensions
from .items import Items
from .kept import kept_folder
from .origin import Origin, of_source
from .quarantine import leads_outside

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
MAX_MEMBERS = 5_000_000
MAX_RATIO, ALWAYS_FINE = (
    200,
    2**30,
)  # images hardly shrink: what grows more, and above so many bytes, is a bomb
MAX_NAME, MAX_PART = 2048, 255  # bytes of a name and of each folder in it that any disk can hold
MAX_SIDECAR = 2**20  # bytes of a file that holds a label
MAX_HEADER = 2**24  # bytes that tarfile reads at once: long names, not a made-up header of gigabytes
MAX_TEXT = 64  # characters of a label in a .txt; what is longer is a caption
LABEL_KEYS = ("label", "cls", "class", "class_name", "category")
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, NotImplementedError,
          RuntimeError, UnicodeError, ValueError)  # fmt: skip


class Refused(ValueError):
    "An archive that is damaged, or that might write where it should not or without end"


class Member(NamedTuple):
    "A file in an archive"

    name: str  # with forward slashes, without './'
    info: Any  # a TarInfo or ZipInfo


class Shard(NamedTuple):
    "An archive, and what it was when it was read"

    path: Path
    fingerprint: list
    images: list[str]  # names of members
    sidecars: dict[str, dict[str, str]]  # key -> ending without dot -> text, see `key_of_member`


class Archives(Origin):
    "Archives whose images were unpacked; `Items.to_archive` writes those that stay"

    def __init__(self, source: Any, labels: tuple[str | None, ...], shards: list[Shard]):
        super().__init__(source, labels)
        self.shards = shards
        self.members = [(s, name) for s, shard in enumerate(shards) for name in shard.images]  # of each row


def is_archive(source: Any) -> bool:
    "Whether `source` is named as an archive is, by one name or a pattern such as 'shard-{000..003}.tar'."
    return isinstance(source, (str, os.PathLike)) and os.fspath(source).lower().endswith(ENDINGS)


def items_of_archives(
    source: str | os.PathLike | Sequence[str | os.PathLike],  # one archive, a pattern of names, or several
    folder: str | os.PathLike | None = None,  # for the images; default: one by content in the user's cache
) -> Items:
    """The images of archives, in their order; labels from key.cls, key.json or key.txt, else from folders.

    Raises `Refused` for an archive with absolute names, '..', links, devices, or far more than it should hold.
    """
    names = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    paths = [Path(path) for name in names for path in expand(os.fspath(name))]
    shards = [_listed(path) for path in paths]
    tops = _tops(paths)
    whole = hashlib.blake2b(
        repr([(s.fingerprint[2], top) for s, top in zip(shards, tops, strict=True)]).encode()
    )

    def fill(new: Path) -> None:
        for shard, top in zip(shards, tops, strict=True):
            _unpack(shard, new / top)
        refuse_changed(shards)

    if not any(shard.images for shard in shards):
        raise ValueError(f"no images in {', '.join(map(str, paths[:3]))}; give an archive that holds some")
    rows = [(shard, top, name) for shard, top in zip(shards, tops, strict=True) for name in shard.images]
    names = [os.path.join(top, name) for _, top, name in rows]
    root = kept_folder(whole.hexdigest()[:32], fill, folder, names)
    refuse_changed(shards)
    labels = tuple(_label(shard, name) for shard, _, name in rows)
    splits = tuple(folder_split(PurePosixPath(name).parts[:-1]) for *_, name in rows)
    items = Items(tuple(root / top / name for _, top, name in rows), labels, splits, root)
    return of_source(items, Archives(source, labels, shards))


def expand(name: str) -> list[str]:
    "The names that a pattern such as 'shard-{000..003}.tar' or '{a,b}.tar' stands for; a file of that name is itself."
    found = None if os.path.exists(name) else re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", name)
    if not found:
        return [name]
    first, last, listed = found.groups()
    if listed is None:
        if not 0 <= int(last) - int(first) < MAX_MEMBERS:
            raise ValueError(f"{name!r} counts from {first} to {last}; give the smaller number first")
        choices: Iterable[str] = (str(k).zfill(len(first)) for k in range(int(first), int(last) + 1))
    else:
        choices = listed.split(",")
    return [full for c in choices for full in expand(name[: found.start()] + c + name[found.end() :])]


def _tops(paths: list[Path]) -> list[str]:
    "A folder for each of several archives, by its name."
    if len(paths) == 1:
        return [""]
    stems = [stem_of(path.name) for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    return [f"{k}-{stem}" for k, stem in enumerate(stems)]


def stem_of(name: str) -> str:
    "The name of an archive without its ending."
    ending = next((e for e in sorted(ENDINGS, key=len, reverse=True) if name.lower().endswith(e)), "")
    return name[: len(name) - len(ending)]


@contextmanager
def opened(path: Path) -> Iterator[tarfile.TarFile | zipfile.ZipFile]:
    "The archive in `path`; what Python says of damage in the block becomes `Refused`."
    try:
        if str(path).lower().endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                yield archive
        else:
            with _stream(path) as raw, tarfile.open(fileobj=_Bounded(raw), mode="r:") as archive:
                yield archive
    except Refused:
        raise
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no archive {str(path)!r}; check the name") from None
    except DAMAGE as err:
        raise Refused(f"{str(path)!r} is damaged or no archive ({err}); nothing of it is used") from err


def members(archive: tarfile.TarFile | zipfile.ZipFile, path: Path) -> Iterator[Member]:
    "The files of an archive in their order, each checked; folders are passed over. Raises `Refused`."
    limit, total, seen = max(ALWAYS_FINE, MAX_RATIO * path.stat().st_size), 0, set()
    for info in archive.infolist() if isinstance(archive, zipfile.ZipFile) else archive:
        given = info.filename if isinstance(info, zipfile.ZipInfo) else info.name
        why = _wrong_name(given) or _wrong_kind(info)
        if why:
            raise Refused(f"{str(path)!r} holds {given!r}, {why}; nothing of it is used")
        if info.is_dir() if isinstance(info, zipfile.ZipInfo) else info.isdir():
            continue
        name = PurePosixPath(given).as_posix()
        total += info.file_size if isinstance(info, zipfile.ZipInfo) else info.size
        if name in seen or len(seen) == MAX_MEMBERS or total > limit:
            why = f"{given!r} twice" if name in seen else f"more than {MAX_MEMBERS} files or {limit} bytes"
            raise Refused(f"{str(path)!r} holds {why}; nothing of it is used")
        seen.add(name)
        yield Member(name, info)
    if isinstance(archive, tarfile.TarFile):
        _check_end(archive, path)


def _check_end(archive: tarfile.TarFile, path: Path) -> None:
    "Raises `Refused` where the members end before the archive does: Python takes a damaged header for the end."
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise Refused(f"{str(path)!r} is damaged or cut off at byte {archive.offset}; nothing of it is used")
    archive.fileobj.read(MAX_HEADER)  # what packed it has a checksum at its end


def content(archive: tarfile.TarFile | zipfile.ZipFile, member: Member) -> IO[bytes]:
    "The bytes of a member, as a file to read."
    return (
        archive.open(member.info)
        if isinstance(archive, zipfile.ZipFile)
        else archive.extractfile(member.info)
    )


def key_of_member(name: str) -> str:
    "What the files of one WebDataset sample have in common: the name up to the first dot behind the last slash."
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def is_image_member(name: str) -> bool:
    "Whether a member is an image, and not hidden, as what macOS adds is."
    parts = PurePosixPath(name).parts
    return os.path.splitext(name)[1].lower() in image_extensions() and not any(
        p.startswith(".") for p in parts
    )


def label_in(texts: dict[str, str]) -> tuple[str, str] | None:
    "The label in the files beside an image, and the ending of the one that holds it."
    if texts.get("cls", "").strip():
        return texts["cls"].strip(), "cls"
    try:
        about = json.loads(texts.get("json", "null"))
    except ValueError:
        about = None
    if key := label_key(about):
        return str(about[key]), "json"
    text = texts.get("txt", "").strip()
    boxes = len(text.split()) > 1 and re.fullmatch(r"[\d\s.eE+-]+", text)  # as YOLO writes them
    return None if not text or len(text) > MAX_TEXT or "\n" in text or boxes else (text, "txt")


def label_key(about: Any) -> str | None:
    "The key of the label in what a JSON file holds."
    if not isinstance(about, dict):
        return None
    values = {key: about.get(key) for key in LABEL_KEYS}
    return next(
        (k for k, v in values.items() if isinstance(v, (str, int)) and not isinstance(v, bool) and v != ""),
        None,
    )


def _label(shard: Shard, name: str) -> str | None:
    found = label_in(shard.sidecars.get(key_of_member(name), {}))
    return found[0] if found else folder_label(PurePosixPath(name).parts[:-1])


def refuse_changed(shards: Iterable[Shard]) -> None:
    "Raises `ValueError` for an archive that is not the one that was read."
    changed = next((s.path for s in shards if not is_unchanged(s.path, s.fingerprint)), None)
    if changed is not None:
        raise ValueError(f"{str(changed)!r} has changed since it was read; read it again")


def _listed(path: Path) -> Shard:
    images, texts = [], {}
    with opened(path):  # whatever is wrong with it is said first
        was = fingerprint(path)
    with opened(path) as archive:
        for member in members(archive, path):
            key = key_of_member(member.name)
            ending = member.name[len(key) + 1 :]
            if is_image_member(member.name):
                images.append(member.name)
            elif ending in ("cls", "txt", "json") and not isinstance(archive, zipfile.ZipFile):
                with content(archive, member) as file:
                    text = file.read(MAX_SIDECAR).decode("utf-8", errors="replace")
                texts.setdefault(key, {})[ending] = text
    keys = set(map(key_of_member, images))
    _check_places(images, path)
    return Shard(path, was, images, {key: t for key, t in texts.items() if key in keys})


def _check_places(images: list[str], path: Path) -> None:
    "Raises `Refused` for names that no folder can hold, or not all at once."
    files = set(images)
    for name in images:
        folders = map(str, PurePosixPath(name).parents)
        parts = [len(os.fsencode(part)) for part in PurePosixPath(name).parts]
        why = "a name that is too long" if max(parts) > MAX_PART or sum(parts) > MAX_NAME else None
        if why is None and not files.isdisjoint(folders):
            why = "which lies in a folder that is a file as well"
        if why:
            raise Refused(f"{str(path)!r} holds {name[:MAX_PART]!r}, {why}; nothing of it is used")


def _unpack(shard: Shard, folder: Path) -> None:
    wanted = set(shard.images)
    with opened(shard.path) as archive:
        for member in members(archive, shard.path):
            if member.name in wanted:
                target = folder / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                with content(archive, member) as source, open(target, "xb") as f:
                    shutil.copyfileobj(source, f, 2**20)


def _wrong_name(name: str) -> str | None:
    # As Windows reads it, which knows drives and backslashes beside all that others know.
    if not name or "\0" in name or leads_outside(name, PureWindowsPath):
        return "a name that leads out of its folder"
    return "a name with a backslash" if "\\" in name else None


def _wrong_kind(info: tarfile.TarInfo | zipfile.ZipInfo) -> str | None:
    if isinstance(info, zipfile.ZipInfo):
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.flag_bits & 1:
            return "which is encrypted"
        return None if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "a link or a device"
    if info.issparse() or info.size < 0:
        return "a file with holes" if info.issparse() else "of less than nothing"
    return None if info.isfile() or info.isdir() else "a link or a device"


def _stream(path: Path) -> IO[bytes]:
    with open(path, "rb") as f:
        start = f.read(6)
    openers = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
    opener = next((opener for magic, opener in openers.items() if start.startswith(magic)), open)
    return opener(path, "rb")


class _Bounded:
    "A file that is never read in one large piece, whatever a made-up header says of its length"

    def __init__(self, raw: IO[bytes]):
        self.raw, self.seek, self.tell = raw, raw.seek, raw.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise Refused("an archive asks to read more at once than any header holds; nothing of it is used")
        return self.raw.read(size)
