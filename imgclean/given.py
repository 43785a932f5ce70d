"""What a run keeps and protects: as the caller says, else as `imgclean.toml` in the dataset's folder does."""

from __future__ import annotations

import os
from collections.abc import Iterable
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
    try:
        check_keep(keep or given.keep or "best")
        protected = protected_items(items, protect or given.protect)
    except ValueError as err:
        if keep is None and not protect:
            raise ValueError(f"{str(items.root / NAME)!r}: {err}") from None
        raise
    return keep or given.keep or "best", {items.paths[k] for k in protected}, given.min_precision
