"""Files of imgclean's own that hold arrays: written whole or not at all, checked when they are read."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import numpy as np

VERSION = 1


@contextmanager
def written_whole(path: str | os.PathLike) -> Iterator[BinaryIO]:
    "A new file that takes the place of `path` when the block ends well; else `path` stays as it was."
    folder, name = os.path.split(os.path.abspath(path))
    try:
        handle, new = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
    except OSError as err:
        raise type(err)(err.errno, err.strerror, os.fspath(path)) from err  # not the name of the new file
    try:
        with open(handle, "wb") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.chmod(new, 0o666 & ~_umask())  # mkstemp's files are for their owner alone
        os.replace(new, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise


def save_arrays(
    path: str | os.PathLike,
    kind: str,  # what the file is, in words
    about: dict,  # settings that JSON can hold
    arrays: dict[str, np.ndarray],
) -> None:
    "Write one .npz file, under exactly the name that is given, for `load_arrays`."
    text = json.dumps({"imgclean": kind, "version": VERSION} | about)
    with written_whole(path) as f:
        np.savez(f, about=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)


def load_arrays(
    path: str | os.PathLike,
    kind: str,
    names: Iterable[str] | None = None,  # default: all
) -> tuple[dict, dict[str, np.ndarray]]:  # (about, arrays)
    "What `save_arrays` wrote; raises `ValueError` for a damaged file, one of another kind or a newer version."
    wrong = f"{os.fspath(path)!r} is no {kind} of imgclean or is damaged; build it anew"
    try:
        with open(path, "rb") as f, np.load(f, allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
            if about["imgclean"] != kind:
                raise ValueError(wrong)
            if about["version"] != VERSION:
                raise _Newer(about["version"])
            return about, {name: file[name] for name in (file.files if names is None else names)}
    except _Newer as err:
        raise ValueError(
            f"{os.fspath(path)!r} is a {kind} of version {err}, this imgclean reads version {VERSION}; build it anew"
        ) from None
    except OSError as err:
        if err.filename:  # not there, or not ours to read
            raise
        raise ValueError(wrong) from err  # damage that sends zip to a place before the file
    # Whatever else is in a file, one of these is what NumPy, zip and JSON say of it.
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, NotImplementedError, RuntimeError,
            zipfile.BadZipFile, zlib.error, MemoryError) as err:  # fmt: skip
        raise ValueError(wrong) from err


def read_json(path: str | os.PathLike) -> Any:
    "What a JSON file holds; raises `ValueError` where it is none."
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def refuse_mismatch(
    path: str | os.PathLike,
    was: Mapping[str, object],  # settings with which the file was made
    now: Mapping[str, object],  # settings of what is to be compared with it
) -> None:
    "Raises `ValueError` for the first of the settings in both that differs; None is not known, and fits all."
    for name in now:
        if None not in (was.get(name), now[name]) and was[name] != now[name]:
            raise ValueError(
                f"{os.fspath(path)!r} was made with {name} {was[name]!r}, now it is {now[name]!r}; "
                "use the model, layer and pooling it was made with, or build it anew"
            )


class _Newer(Exception):
    "The file's version is not ours"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
