"""What `Items` came from, and how a clean dataset becomes the same type again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .items import Items


@dataclass(eq=False)
class Origin:
    "What `Items` came from, where that is no type of its own: a folder, or files unpacked from an archive"

    source: Any
    labels: tuple[str | None, ...]  # of each row as it was read

    def rebuild(self, items: Items) -> Any:
        "The items as the type of `source`: those rows alone, with the labels that are new."
        return items.df()

    def relabeled(self, items: Items) -> dict[int, str]:  # row -> new label
        "The rows whose label is another one than was read."
        changed = {}
        for row, label in zip(rows_of(items), items.labels, strict=True):
            if label is not None and not _same(label, self.labels[row], items.label_delim):
                changed[row] = label
        return changed


class Listed(Origin):
    "A list of paths or of pictures; labels have no place in it"

    def rebuild(self, items: Items) -> list:
        return [self.source[row] for row in rows_of(items)]


class Parts(Origin):
    "A mapping from the names of splits to datasets; its rows are theirs, one after the other"

    def __init__(self, source: Any, parts: dict[str, Items]):
        super().__init__(source, tuple(label for part in parts.values() for label in part.origin.labels))
        self.parts = parts

    def rebuild(self, items: Items) -> Any:
        built, start = {}, 0
        for name, part in self.parts.items():
            stop = start + len(part.origin.labels)
            ks = [k for k, row in enumerate(rows_of(items)) if start <= row < stop]
            own = items.subset(ks)
            built[name] = part.origin.rebuild(_at(own, part, tuple(row - start for row in rows_of(own))))
            start = stop
        return type(self.source)(built)


def rows_of(items: Items) -> Sequence[int]:
    "The row of each item in its source."
    return range(len(items)) if items.rows is None else items.rows


def of_source(items: Items, origin: Origin) -> Items:
    "`items`, one for each row of its source, in that order."
    return replace(items, origin=origin, rows=tuple(range(len(items))))


def _at(items: Items, part: Items, rows: tuple[int, ...]) -> Items:
    return replace(items, origin=part.origin, rows=rows, root=Path(part.root))


def _same(label: str, was: str | None, delim: str | None) -> bool:
    if delim is None or was is None:
        return label == was
    return set(label.split(delim)) == set(was.split(delim))
