"""Images out of the dataset and back: a quarantine folder beside them, whose manifest is written before anything moves.

No file is ever deleted here: it is renamed into the quarantine, or handed to the system's trash.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import NamedTuple
from uuid import uuid4

from .cleaned import FOLDER, sync_folder
from .stored import read_json, written_whole
from .wording import counted

KIND, VERSION = "quarantine", 1
MANIFEST, FILES = "manifest.json", "files"
NOWHERE = "neither in the quarantine nor in its place; look in the system's trash"


class Moved(NamedTuple):
    "What `move_out` did"

    quarantined: list[str]  # names
    trashed: list[str]
    failed: dict[str, str]  # name -> why the file is still where it was


class Restored(NamedTuple):
    "What `restore` did"

    restored: list[str]  # names
    in_place: list[str]  # that were never moved, or are back already
    failed: dict[str, str]  # name -> why it is not back

    def __str__(self) -> str:
        there = f", {counted(len(self.in_place), 'file')} in place already" if self.in_place else ""
        done = f"restored {counted(len(self.restored), 'file')}{there}; cleaned.csv stays as it is"
        return done + "".join(f"\n{name}: {why}" for name, why in self.failed.items())


def write_manifest(
    root: Path,
    files: Mapping[str, list],  # name below `root`, with forward slashes -> fingerprint
) -> Path:
    "A new quarantine folder below `root`, empty but for the manifest of what shall move there, which is on the disk."
    folder = root / FOLDER / KIND / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:6]}"
    (folder / FILES).mkdir(parents=True)
    about = {"imgclean": KIND, "version": VERSION, "files": dict(files)}
    with written_whole(folder / MANIFEST) as f:
        f.write(json.dumps(about, indent=1).encode())  # ASCII, whatever the file names hold
    for parent in (folder, *list(folder.parents)[:3]):
        sync_folder(parent)
    return folder / MANIFEST


def move_out(
    manifest: Path,
    trash: Callable[[str], None] | None = None,  # tried first, as `system_trash`
) -> Moved:
    "Move the files of `manifest` into its folder; one that cannot be moved stays, and stops none of the others."
    done = Moved([], [], {})
    for name in _files(manifest):
        source, target = _source(manifest, name), _target(manifest, name)
        try:
            if os.path.lexists(target):  # from an earlier call
                done.failed[name] = f"another file of this name is in {target} already"
                continue
            if trash and _trashed(trash, source):
                done.trashed.append(name)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(source, target)
            done.quarantined.append(name)
        except OSError as err:
            done.failed[name] = _why(err)
    return done


def restore(
    manifest: str | os.PathLike,  # of a quarantine, or its folder
) -> Restored:
    """Put every file of a quarantine back where it was; harmless when it is called again.

    Raises `ValueError` where `manifest` is none. Nothing is written over: where a file is in the way, both stay.
    """
    manifest = Path(manifest)
    manifest = manifest / MANIFEST if manifest.is_dir() else manifest
    done = Restored([], [], {})
    for name in _files(manifest):
        source, target = _source(manifest, name), _target(manifest, name)
        try:
            if not os.path.lexists(target):
                if os.path.lexists(source):
                    done.in_place.append(name)
                else:
                    done.failed[name] = NOWHERE
            else:
                source.parent.mkdir(parents=True, exist_ok=True)
                _move_back(target, source)
                done.restored.append(name)
        except FileExistsError:
            done.failed[name] = f"another file is in its place; this one is still in {target}"
        except OSError as err:
            done.failed[name] = _why(err)
    return done


def restore_all(root: Path) -> Restored:
    """Put the files of the latest quarantine below `root` back, and of all older ones that still hold files.

    Newest first: of two files of one name, the later one comes back. Raises `ValueError` where there is no quarantine.
    """
    *older, latest = manifests(root) or [None]
    if latest is None:
        raise ValueError(f"nothing was moved out of {root}; there is nothing to restore")
    restored, in_place, failed = {}, {}, {}
    for manifest in [latest, *reversed([m for m in older if _holds_files(m)])]:
        done = restore(manifest)
        restored |= dict.fromkeys(done.restored)
        in_place |= dict.fromkeys(done.in_place)
        failed |= done.failed
    # Of two that listed a file at once, one has it.
    failed = {name: why for name, why in failed.items() if why != NOWHERE or name not in restored}
    return Restored([*restored], [name for name in in_place if name not in restored], failed)


def manifests(root: Path) -> list[Path]:
    "The manifests of all quarantines below `root`, oldest first."
    found = (root / FOLDER / KIND).glob(f"*/{MANIFEST}")
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path))


def quarantined(
    root: Path,
    files: Mapping[str, list],  # name below `root` -> fingerprint
) -> set[str]:
    "Names of those of the `files` that lie in a quarantine below `root`, with the content of their fingerprint."
    found = set()
    for manifest in manifests(root):
        try:
            moved = _files(manifest)
        except ValueError:  # somebody else's, or broken: `restore` complains
            continue
        same = [name for name, was in files.items() if (moved.get(name) or [])[2:] == was[2:]]
        found.update(name for name in same if os.path.lexists(_target(manifest, name)))
    return found


def system_trash() -> Callable[[str], None]:
    "What sends a file to the system's trash; raises `ImportError` where send2trash is not installed."
    try:
        from send2trash import send2trash
    except ImportError as err:
        raise ImportError(
            "action='trash' needs send2trash, which is not installed; run `pip install imgclean[trash]`, "
            "or use action='quarantine'"
        ) from err
    return send2trash


def _trashed(trash: Callable[[str], None], path: Path) -> bool:
    "Whether the trash took the file; it is known to fail on network drives and in containers."
    try:
        trash(str(path))
    except Exception:  # each system's trash raises its own
        return False
    return not os.path.lexists(path)


def _move_back(target: Path, source: Path) -> None:
    "Out of the quarantine; raises `FileExistsError` where a file is in the way, also if it came at this moment."
    try:
        os.link(target, source, follow_symlinks=False)  # a rename would write over it
    except FileExistsError:
        if not _linked(target, source):  # by a call that was killed before the next line
            raise
    except (OSError, NotImplementedError):  # a drive or a system without such links
        if os.path.lexists(source):
            raise FileExistsError(source) from None
        os.rename(target, source)
        return
    os.unlink(target)


def _linked(one: Path, other: Path) -> bool:
    "Whether these are two names of one file, and not one name reached in two ways."
    a, b = os.lstat(one), os.lstat(other)
    return os.path.samestat(a, b) and a.st_nlink > 1


def _holds_files(manifest: Path) -> bool:
    return any(os.path.lexists(_target(manifest, name)) for name in _files(manifest))


def _files(manifest: Path) -> dict[str, list]:  # name -> fingerprint
    wrong = f"{str(manifest)!r} is no manifest of a quarantine; give the {MANIFEST} that apply returned"
    try:
        about = read_json(manifest)
        if about["imgclean"] != KIND or about["version"] != VERSION:
            raise ValueError(wrong)
        files = dict(about["files"])
    except (ValueError, KeyError, TypeError) as err:
        raise ValueError(wrong) from err
    forged = [name for name in files if leads_outside(name)]
    if forged:
        raise ValueError(f"{str(manifest)!r} names {forged[0]!r}, which lies outside of its dataset")
    return files


def leads_outside(
    name: str,
    system: type[
        PurePath
    ] = PurePath,  # this one: only Windows takes 'C:' for a drive and a backslash for a slash
) -> bool:
    "Whether `name` joined to a folder might be something outside of it."
    path = system(name)
    return bool(path.anchor) or ".." in path.parts


def _source(manifest: Path, name: str) -> Path:
    return Path(os.path.abspath(manifest)).parents[3] / name  # root/.imgclean/quarantine/<time>/manifest.json


def _target(manifest: Path, name: str) -> Path:
    return Path(os.path.abspath(manifest)).parent / FILES / name


def _why(err: OSError) -> str:
    return (err.strerror or str(err)).lower()
