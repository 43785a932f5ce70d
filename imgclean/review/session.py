"""`Review`: which images a person deletes, keeps or relabels. Plain Python; knows no widget and no torch."""

from __future__ import annotations

import logging
import operator
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock

from ..dataset.cleaned import Ledger, fingerprint, is_unchanged, ledger_path, write_csv
from ..dataset.items import Items, relative_to
from ..find.groups import Group

log = logging.getLogger(__name__)
MARKS = ("delete", "keep")


class EveryCopyLost(ValueError):
    "A group would lose all of its images"


@dataclass(frozen=True)
class Step:
    "One action, and what it takes to go back: item -> new and old value; `None` means undecided or unchanged"

    do: str
    marks: dict[int, str | None]
    labels: dict[int, str | None]
    old_marks: dict[int, str | None]
    old_labels: dict[int, str | None]

    def reversed(self, do: str) -> Step:
        return Step(do, self.old_marks, self.old_labels, self.marks, self.labels)


@dataclass(frozen=True)
class Applied:
    "What `apply` did"

    csv: Path
    kept: int
    deleted: int
    relabeled: int

    def __str__(self) -> str:
        done = f"wrote {self.csv}: {self.kept} images kept, {self.deleted} left out"
        return f"{done}, {self.relabeled} relabelled; no image file was touched"


class Review:
    """The decisions about the images of `groups`, each on disk before the call returns, with undo and redo.

    Marking changes no image file. Opening a review of the same folder again continues where the last one stopped;
    a decision about a file whose content has changed since is dropped. Safe to use from several threads.
    """

    def __init__(
        self,
        items: Items,
        groups: Iterable[Sequence[int]],  # item indices, the suggested keeper first
        path: str | os.PathLike | None = None,  # gets `cleaned.csv` and the ledger; default `items.root`
        *,
        ledger: str
        | os.PathLike
        | None = None,  # file of the decisions; default `path/.imgclean/review.jsonl`
    ):
        self.items, self.path = items, Path(path if path is not None else items.root)
        if not self.path.is_dir():
            raise NotADirectoryError(
                f"{str(self.path)!r} is no folder; give the one that cleaned.csv should go to"
            )
        self.groups = [g if isinstance(g, Group) else Group(g) for g in groups]
        outside = [k for g in self.groups for k in g if not 0 <= k < len(items)]
        if outside:
            raise ValueError(
                f"idxs name item {outside[0]}, but there are {len(items)} images; give their own dataset"
            )
        self.lock = RLock()
        self._marks: dict[int, str] = {}
        self._labels: dict[int, str] = {}
        self._undo: list[Step] = []
        self._redo: list[Step] = []
        self._watchers: list[Callable[[dict], None]] = []
        self._names = _unique([relative_to(p, self.path) for p in items.paths])
        self.ledger = Ledger(ledger or ledger_path(self.path))
        self._resume()

    # decisions so far

    @property
    def deleted(self) -> list[int]:
        "Items marked to be left out, sorted."
        return sorted(k for k, mark in self._marks.items() if mark == "delete")

    @property
    def kept(self) -> list[int]:
        "Items that a person chose to keep, sorted."
        return sorted(k for k, mark in self._marks.items() if mark == "keep")

    @property
    def relabeled(self) -> dict[int, str]:
        "New label of each relabelled item."
        return dict(sorted(self._labels.items()))

    @property
    def undecided(self) -> list[int]:
        "Items of the groups that carry no mark, sorted."
        return sorted({k for g in self.groups for k in g} - self._marks.keys())

    @property
    def decisions(self) -> dict[str, str]:
        "Relative path -> 'delete' or 'keep', for every marked item."
        return {self._names[k]: self._marks[k] for k in sorted(self._marks)}

    def mark_of(self, k: int) -> str | None:
        "'delete', 'keep' or `None` for item `k`."
        return self._marks.get(k)

    def label_of(self, k: int) -> str | None:
        "Label of item `k` after relabelling."
        return self._labels.get(k, self.items.labels[k])

    def is_decided(self, g: int) -> bool:
        "Whether every image of group `g` carries a mark."
        return all(k in self._marks for k in self.groups[g])

    def lost(self) -> list[int]:
        "Groups that would keep no image."
        return [
            g
            for g, ks in enumerate(self.groups)
            if len(ks) > 1 and all(self._marks.get(k) == "delete" for k in ks)
        ]

    # actions: each is one step of undo

    def mark(self, ks: int | Iterable[int], value: str | None) -> None:
        "Mark items 'delete' or 'keep'; `None` takes the mark away."
        if value not in (*MARKS, None):
            raise ValueError(f"the mark is {value!r}; give 'delete', 'keep' or None")
        self._do("mark", dict.fromkeys(self._indices(ks), value))

    def keep_only(self, k: int, g: int | None = None) -> None:
        "Keep item `k` and delete the others of group `g`, by default of every group that it is in."
        (k,) = self._indices(k)
        groups = self.groups if g is None else [self.groups[self._group(g)]]
        marks = {other: "delete" for ks in groups if k in ks for other in ks}
        self._do("keep only", marks | {k: "keep"})

    def keep_all(self, g: int) -> None:
        "Keep every image of group `g`: they are no duplicates."
        self._do("keep all", dict.fromkeys(self.groups[self._group(g)], "keep"))

    def keep_best(self, gs: int | Iterable[int] | None = None) -> None:
        "Take the suggestion for groups `gs`, by default for all: keep the first image, delete the rest."
        gs = range(len(self.groups)) if gs is None else [gs] if hasattr(gs, "__index__") else gs
        marks: dict[int, str] = {}
        for ks in (self.groups[self._group(g)] for g in gs):
            marks |= dict.fromkeys(ks[1:], "delete")
            marks |= {ks[0]: "keep"}
        self._do("keep best", marks)

    def accept(self, g: int) -> None:
        "Keep those images of group `g` that carry no mark yet."
        self._do("accept", {k: "keep" for k in self.groups[self._group(g)] if k not in self._marks})

    def relabel(self, ks: int | Iterable[int], label: str | None) -> None:
        "Give items a new label; `None` or the old one takes the change back."
        new = {k: None if label == self.items.labels[k] else label for k in self._indices(ks)}
        self._do("relabel", {}, new)

    def undo(self) -> bool:
        "Take the last action back; False where there is none."
        with self.lock:
            if not self._undo:
                return False
            step = self._undo[-1].reversed("undo")
            self._record(step)
            self._redo.append(self._undo.pop())
            self._tell(step)
            return True

    def redo(self) -> bool:
        "Do again what was last undone; False where there is nothing."
        with self.lock:
            if not self._redo:
                return False
            step = replace(self._redo[-1], do="redo")
            self._record(step)
            self._undo.append(self._redo.pop())
            self._tell(step)
            return True

    # the outcome

    def cleaned(self) -> Items:
        "The dataset without the images marked for deletion, with the new labels."
        with self.lock:
            labels = tuple(self.label_of(k) for k in range(len(self.items)))
            keep = [k for k in range(len(self.items)) if self._marks.get(k) != "delete"]
            return replace(self.items, labels=labels).subset(keep)

    def plan(self) -> dict:
        "What `apply` would do, as numbers and words; touches nothing."
        with self.lock:
            deleted = self.deleted
            return {
                "csv": str(self.path / "cleaned.csv"),
                "images": len(self.items),
                "delete": len(deleted),
                "bytes": sum(self.items.n_bytes(k) for k in deleted),
                "relabel": len(self._labels),
                "unreadable": len(self.items.unreadable),
                "lost": self.lost(),
            }

    def apply(
        self,
        lose_groups: bool = False,  # agree that groups marked wholly for deletion keep no image
    ) -> Applied:
        """Write `cleaned.csv`: one row `name,label` for each image that stays. No image file is touched.

        Raises `EveryCopyLost` where a group would keep no image and `lose_groups` is False.
        """
        with self.lock:
            lost = self.lost()
            if lost and not lose_groups:
                shown = ", ".join(f"#{g + 1}" for g in lost[:5]) + (", …" if len(lost) > 5 else "")
                raise EveryCopyLost(
                    f"{len(lost)} group(s) would lose every copy: {shown}; keep one of each, or give lose_groups=True"
                )
            csv = write_csv(self.cleaned(), self.path)
            deleted = len(self.deleted)
            return Applied(csv, len(self.items) - deleted, deleted, len(self._labels))

    def on_change(self, watcher: Callable[[dict], None]) -> None:
        "Call `watcher({'do': str, 'marks': {item: mark}, 'labels': {item: label}})` after every change."
        self._watchers.append(watcher)

    # inside

    def _indices(self, ks: int | Iterable[int]) -> list[int]:
        ks = [ks] if hasattr(ks, "__index__") else ks
        ks = [operator.index(k) for k in ks]
        for k in ks:
            if not 0 <= k < len(self.items):
                raise ValueError(f"there is no item {k}; items go from 0 to {len(self.items) - 1}")
        return ks

    def _group(self, g: int) -> int:
        if not 0 <= g < len(self.groups):
            raise ValueError(f"there is no group {g}; groups go from 0 to {len(self.groups) - 1}")
        return g

    def _do(self, do: str, marks: dict[int, str | None], labels: dict[int, str | None] | None = None) -> None:
        with self.lock:
            marks = {k: v for k, v in marks.items() if self._marks.get(k) != v}
            labels = {k: v for k, v in (labels or {}).items() if self._labels.get(k) != v}
            if not marks and not labels:
                return
            old = {k: self._marks.get(k) for k in marks}, {k: self._labels.get(k) for k in labels}
            step = Step(do, marks, labels, *old)
            self._record(step)
            self._undo.append(step)
            self._redo.clear()
            self._tell(step)

    def _record(self, step: Step) -> None:
        "The disk first: what cannot be written is not decided."
        touched = step.marks.keys() | step.labels.keys()
        files = {}
        for k in touched:
            try:
                files[self._names[k]] = fingerprint(self.items.paths[k])
            except OSError:  # the file is gone; the decision about it still stands
                log.warning("cannot read %s; its decision is kept by name alone", self._names[k])
        line = {
            "do": step.do,
            "mark": {self._names[k]: v for k, v in step.marks.items()},
            "label": {self._names[k]: v for k, v in step.labels.items()},
            "files": files,
        }
        try:
            self.ledger.append(line)
        except OSError as err:
            raise OSError(
                f"the decision was not recorded: {self.ledger.path} cannot be written ({err.strerror}); "
                "give ImageCleaner or Review a writable path="
            ) from err
        self._set(step)

    def _set(self, step: Step) -> None:
        for state, new in ((self._marks, step.marks), (self._labels, step.labels)):
            for k, value in new.items():
                if value is None:
                    state.pop(k, None)
                else:
                    state[k] = value

    def _tell(self, step: Step) -> None:
        labels = {k: self.label_of(k) for k in step.labels}
        for watcher in self._watchers:
            watcher({"do": step.do, "marks": dict(step.marks), "labels": labels})

    def _resume(self) -> None:
        "Add up the ledger's lines; undo and redo work across sessions, too."
        at = {name: k for k, name in enumerate(self._names)}
        for line in self.ledger.lines():
            files = line.get("files") or {}
            stale = {n for n, was in files.items() if n in at and not self._is_same(at[n], was)}

            def known(key, line=line, stale=stale):
                values = line.get(key) or {}
                return {at[n]: v for n, v in values.items() if n in at and n not in stale}

            marks, labels = known("mark"), known("label")
            if any(v not in (*MARKS, None) for v in marks.values()):
                log.warning(
                    "%s holds a mark that this version does not know; the line is ignored", self.ledger.path
                )
                continue
            if not marks and not labels:
                continue
            old = {k: self._marks.get(k) for k in marks}, {k: self._labels.get(k) for k in labels}
            step = Step(str(line.get("do")), marks, labels, *old)
            self._set(step)
            if step.do == "undo" and self._undo:
                self._redo.append(self._undo.pop())
            elif step.do == "redo" and self._redo:
                self._undo.append(self._redo.pop())
            else:
                self._undo.append(step)
                self._redo.clear()

    def _is_same(self, k: int, was: list) -> bool:
        return not self.items.paths[k].exists() or is_unchanged(self.items.paths[k], was)


def _unique(names: list[str]) -> list[str]:
    "The names, with '#2', '#3', … behind one that came before: a csv may list a file twice, and drop it once."
    count = dict.fromkeys(names, 0)
    unique = []
    for name in names:
        count[name] += 1
        unique.append(name if count[name] == 1 else f"{name}#{count[name]}")
    return unique


def as_groups(idxs: Iterable, duplicates: bool | None = None) -> list[Group]:
    """`Group`s from what a finder returns: groups, or a flat list of items as fastai v1 had it.

    A flat list means pairs `[a0, b0, a1, b1, …]` with `duplicates`, else single images.
    """
    idxs = list(idxs)
    if any(not hasattr(entry, "__index__") for entry in idxs):
        return [g if isinstance(g, Group) else Group(g) for g in idxs]
    flat = [operator.index(k) for k in idxs]
    if not duplicates:
        return [Group([k]) for k in flat]
    if len(flat) % 2:
        raise ValueError(
            f"a flat list of pairs has {len(flat)} entries; give an even number, two for each pair"
        )
    return [Group(pair) for pair in zip(flat[::2], flat[1::2], strict=True)]
