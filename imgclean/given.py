"""What a run keeps and protects: as the caller says, else as `imgclean.toml` in the dataset's folder does."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .dataset.defaults import NAME, Defaults
from .dataset.facts import protected_items
from .dataset.items import Items
from .find.keepers import Keep, check_keep


def with_defaults(
    items: Items,
    keep: Keep | None,
    protect: str | os.PathLike | Iterable[str | os.PathLike],
) -> tuple[Keep, set[Path], float | None]:
    "What is kept, which files are protected, and the share of true pairs: as given, else as `imgclean.toml` says."
    given = Defaults.of(items.root)
    with _naming_file(items.root, keep is None):
        kept = given.keep or "best" if keep is None else keep
        check_keep(kept)
    with _naming_file(items.root, not protect):
        protected = protected_items(items, protect) if protect else _protected(items, given.protect)
    return kept, {items.paths[k] for k in protected}, given.min_precision


def _protected(items: Items, names: Iterable[str]) -> frozenset[int]:
    "What the file protects; part of a dataset, such as one split, need hold nothing of a folder that is there."
    found: frozenset[int] = frozenset()
    for name in names:
        try:
            found |= protected_items(items, name)
        except ValueError:
            if not os.path.lexists(items.root / name):
                raise
    return found


@contextmanager
def _naming_file(root: Path, is_files: bool) -> Iterator[None]:
    "What is wrong with a value of the file is said with the file's name."
    try:
        yield
    except ValueError as err:
        if not is_files:
            raise
        raise ValueError(f"{str(root / NAME)!r}: {err}") from None
