"""The decisions of another copy of a folder, taken over where its content is here, too."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from ..dataset.cleaned import Ledger
from ..dataset.identity import Identities
from .decisions import Change, Decisions


def replay(
    ours: Decisions,
    folder: Path,  # that names in ledgers are relative to
    path: Path,  # of the other ledger
    protected: Collection[int],
    do: Callable[[str, Change], None],  # what records a step
) -> dict[str, int]:
    "What `Review.replay` returns. Decisions of our own stand, and what is protected is not deleted."
    theirs = Decisions(ours.items, Identities(ours.items, folder), Ledger(path))
    named: dict[str, str | None] = {}
    for line in theirs.ledger.lines():
        for found in theirs.meant([line], by_name=False):
            named |= line.get("mark") or {}
            theirs.take(*found)
    marks = {k: v for k, v in theirs.marks.items() if k not in ours.marks}
    spared = {k for k, v in marks.items() if v == "delete" and k in protected}
    change = Change(
        {k: v for k, v in marks.items() if k not in spared},
        {k: v for k, v in theirs.labels.items() if k not in ours.labels},
        {r: True for r in theirs.apart.relations if r not in ours.apart.relations},
    )
    do("replay", change)
    return {
        "taken": len(change.marks) + len(change.labels) + len(change.apart),
        "here": len(theirs.marks) - len(marks),
        "elsewhere": sum(v is not None for v in named.values()) - len(theirs.marks),
        "protected": len(spared),
    }
