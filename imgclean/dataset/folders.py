"""Which files of a folder are its images: the walk, patterns of names, and what folders say of label and split."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from .images import image_extensions

SPLITS = dict(train="train", training="train", valid="valid", validation="valid", val="valid", test="test")


def split_name(name: str | None) -> str | None:
    "train, valid or test for what people call them; other names as they are."
    return name and SPLITS.get(name.strip().lower(), name.strip())


def folder_split(folders: Sequence[str]) -> str | None:
    "The split that the outermost of `folders` names."
    return SPLITS.get(folders[0].lower()) if folders else None


def folder_label(folders: Sequence[str]) -> str | None:
    "The innermost folder's name, unless that is the root or a split."
    named = folders[1:] if folder_split(folders) else folders
    return named[-1] if named else None


def walk(
    root: Path,
    note: Callable[[Path, str], None],  # told of each folder and file that cannot be read, and why
) -> Iterator[Path]:
    "Image files below `root`; symlinked folders are followed once, hidden names are skipped."

    def cannot_list(err: OSError) -> None:
        note(Path(err.filename), f"the folder cannot be listed: {err.strerror.lower()}")

    endings, seen, starts = image_extensions(), set(), [os.fspath(root)]
    while starts:
        for folder, folders, files in os.walk(starts.pop(0), onerror=cannot_list):
            # A folder that two names lead to is one folder: link loops end, nothing duplicates itself.
            # Links wait until all real folders are seen, so that an image keeps its real name.
            here = os.stat(folder)
            if (here.st_dev, here.st_ino) in seen:
                folders.clear()
                continue
            seen.add((here.st_dev, here.st_ino))
            folders[:] = sorted(d for d in folders if not d.startswith("."))
            starts += [link for d in folders if os.path.islink(link := os.path.join(folder, d))]
            for name in files:
                if name.startswith(".") or os.path.splitext(name)[1].lower() not in endings:
                    continue
                path = Path(folder, name)
                if _is_special(path):  # opening a pipe would wait for ever
                    note(path, "not a regular file")
                else:
                    yield path


def _is_special(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:  # a broken link: whoever opens it says so
        return False


def wanted(
    include: str | Iterable[str] = (),  # patterns; none: everything
    exclude: str | Iterable[str] = (),
) -> Callable[[str], bool]:
    """Whether a name relative to the root, with forward slashes, fits one of `include` and none of `exclude`.

    `*`, `?` and `[ab]` stay within one part of a name, `**` stands for any number of folders. A pattern without a slash
    fits a file or a folder at any depth, one with a slash is seen from the root; a folder stands for all below it.
    """
    inside, outside = ([_parts(p) for p in _listed(patterns)] for patterns in (include, exclude))

    def fits(name: str) -> bool:
        parts = tuple(name.split("/"))
        return (not inside or any(_fits(parts, p) for p in inside)) and not any(
            _fits(parts, p) for p in outside
        )

    return fits


def _listed(patterns: str | Iterable[str]) -> list[str]:
    patterns = [patterns] if isinstance(patterns, str) else list(patterns or ())
    wrong = next((p for p in patterns if not isinstance(p, str) or not p.strip("/")), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is no pattern of names; give some such as 'thumbs' or 'raw/*.png'")
    return patterns


def _parts(pattern: str) -> tuple[str, ...]:
    parts = tuple(part for part in pattern.split("/") if part not in ("", "."))
    return parts if "/" in pattern.rstrip("/") else ("**", *parts)


def _fits(name: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    "Whether `pattern` fits the name, or one of the folders that it lies in."
    if not pattern:
        return True
    if pattern[0] == "**":
        rest = pattern[1:]
        if not rest:  # what lies below
            return bool(name)
        return any(_fits(name[k:], rest) for k in range(len(name)))
    return bool(name) and bool(_regex(pattern[0])(name[0])) and _fits(name[1:], pattern[1:])


@lru_cache(maxsize=1000)
def _regex(part: str) -> Callable:
    return re.compile(fnmatch.translate(part)).match


def label_from(
    labels: str | re.Pattern | Callable[[Path], object],
    root: Path,  # what a regular expression sees names relative to
) -> Callable[[Path], str | None]:
    """From a path to its label: what the one group of a regular expression finds in the relative name, or what a function says.

    None where the expression is not found. Raises `ValueError` for one without exactly one group.
    """
    if callable(labels):
        return lambda path: None if (value := labels(path)) is None else str(value)
    regex = label_regex(labels)

    def label(path: Path) -> str | None:
        found = regex.search(os.path.relpath(path, root).replace(os.sep, "/"))
        return found[1] if found else None

    return label


def label_regex(text: str | re.Pattern) -> re.Pattern:
    "`text` compiled; raises `ValueError` where it is no regular expression with exactly one group."
    try:
        regex = re.compile(text)
    except (re.error, TypeError) as err:
        raise ValueError(f"{text!r} is no regular expression ({err}); give one with one group") from None
    if regex.groups != 1:
        raise ValueError(
            f"{regex.pattern!r} has {regex.groups} groups; give one, around the label: r'^([^_]+)_'"
        )
    return regex
