"""`imgclean.toml` in the folder of a dataset: what holds for it where the caller does not say otherwise."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from .folders import label_regex, wanted

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = "imgclean.toml"


@dataclass(frozen=True)
class Defaults:
    "What `imgclean.toml` says; None and () where it says nothing"

    keep: str | None = None  # a policy's name, see docs/keepers.md
    protect: tuple[str, ...] = ()  # files and folders
    include: tuple[str, ...] = ()  # patterns of names, see `folders.wanted`
    exclude: tuple[str, ...] = ()
    min_precision: float | None = None
    label: str | None = None  # a regular expression with one group

    @classmethod
    def of(cls, root: str | os.PathLike) -> Defaults:
        "The defaults of the dataset in `root`; raises `ValueError` with the file's name and the key that is wrong."
        path = Path(root) / NAME
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return cls()
        try:
            found = tomllib.loads(text.decode("utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
            raise ValueError(f"{str(path)!r} is no TOML: {err}; correct it or take it away") from None
        unknown = next((key for key in found if key not in _CHECKS), None)
        if unknown is not None:
            raise ValueError(f"{str(path)!r}: there is no key {unknown!r}; give {', '.join(_CHECKS)}")
        return cls(**{key: _checked(path, key, value) for key, value in found.items()})


def _checked(path: Path, key: str, value):
    try:
        return _CHECKS[key](value)
    except ValueError as err:
        raise ValueError(f"{str(path)!r}: {key} is {value!r}; {err}") from None


def _text(value) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("give a text")
    return value


def _texts(value) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
        raise ValueError("give a list of texts")
    return tuple(value)


def _patterns(value) -> tuple[str, ...]:
    wanted(_texts(value))  # raises for what is none
    return tuple(value)


def _share(value) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
        raise ValueError("give a share above 0 and at most 1, such as 0.99")
    return float(value)


def _regex(value) -> str:
    return label_regex(_text(value)).pattern


_CHECKS = {
    "keep": _text,
    "protect": _texts,
    "include": _patterns,
    "exclude": _patterns,
    "min_precision": _share,
    "label": _regex,
}
