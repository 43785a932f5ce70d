"""`Review`: which images a person deletes, keeps or relabels. Plain Python; knows no widget and no torch."""

from __future__ import annotations

import logging
import operator
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from uuid import uuid4

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
    id: str
    marks: dict[int, str | None]
    labels: dict[int, str | None]
    old_marks: dict[int, str | None]
    old_labels: dict[int, str | None]


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
    a decision about a file whose content has changed since is dropped. Several reviews of one folder share their
    decisions and their undo. Safe to use from several threads.
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
        if {g.dataset for g in self.groups} - {None, items.key()}:
            raise ValueError("idxs were found in another dataset; give the `ds` that came with them")
        self.lock = RLock()
        self._marks: dict[int, str] = {}
        self._labels: dict[int, str] = {}
        self._undo: list[Step] = []
        self._redo: list[Step] = []
        self._watchers: list[Callable[[dict], None]] = []
        self._names = _unique([relative_to(p, self.path) for p in items.paths])
        self._at = {name: k for k, name in enumerate(self._names)}
        self.ledger = Ledger(ledger or ledger_path(self.path))
        self._catch_up()

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
        """Take the suggestion for groups `gs`, by default for all: keep the first image, delete the rest but the protected.

        Where groups share images, as fastai v1's pairs do, none of them loses its last one.
        """
        gs = range(len(self.groups)) if gs is None else [gs] if hasattr(gs, "__index__") else gs
        chosen = [self.groups[self._group(g)] for g in gs]
        marks: dict[int, str] = {k: "keep" for ks in chosen for k in ks.protected}
        for ks in chosen:
            kept = [k for k in ks if marks.get(k) == "keep"]
            kept = kept or [k for k in ks if k not in marks][:1] or [ks[0]]
            marks |= dict.fromkeys((k for k in ks if k not in marks), "delete") | dict.fromkeys(kept, "keep")
        self._do("keep best", marks)

    def accept(self, g: int) -> None:
        "Keep those images of group `g` that carry no mark yet."
        self._do("accept", {k: "keep" for k in self.groups[self._group(g)] if k not in self._marks})

    def relabel(self, ks: int | Iterable[int], label: str | None) -> None:
        "Give items a new label; `None` or the old one takes the change back."
        new = {k: None if label == self.items.labels[k] else label for k in self._indices(ks)}
        self._do("relabel", {}, new)

    def undo(self) -> list[int] | None:
        "Take the last action back; returns the items that changed, `None` where there is nothing to undo."
        with self.lock:
            self._catch_up()
            if not self._undo:
                return None
            step = self._undo[-1]
            self._record("undo", step.old_marks, step.old_labels, step.id)
            return [*step.marks, *step.labels]

    def redo(self) -> list[int] | None:
        "Do again what was last undone; returns the items that changed, `None` where there is nothing."
        with self.lock:
            self._catch_up()
            if not self._redo:
                return None
            step = self._redo[-1]
            self._record("redo", step.marks, step.labels, step.id)
            return [*step.marks, *step.labels]

    def next_undecided(self, after: int = -1) -> int | None:
        "The first group behind group `after` that lacks a mark, from the start if there is none; `None` if all are done."
        n = len(self.groups)
        order = [g % n for g in range(after + 1, after + 1 + n)] if n else []
        return next((g for g in order if not self.is_decided(g)), None)

    # the outcome

    def cleaned(self) -> Items:
        "The dataset without the images marked for deletion, with the new labels."
        with self.lock:
            self._catch_up()
            labels = tuple(self.label_of(k) for k in range(len(self.items)))
            keep = [k for k in range(len(self.items)) if self._marks.get(k) != "delete"]
            return replace(self.items, labels=labels).subset(keep)

    def plan(self) -> dict:
        "What `apply` would do, as numbers and words; touches nothing."
        with self.lock:
            self._catch_up()
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
            self._catch_up()
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
            self._catch_up()
            marks = {k: v for k, v in marks.items() if self._marks.get(k) != v}
            labels = {k: v for k, v in (labels or {}).items() if self._labels.get(k) != v}
            if marks or labels:
                self._record(do, marks, labels)

    def _record(self, do: str, marks: dict, labels: dict, of: str | None = None) -> None:
        "The disk first: what cannot be written is not decided."
        files = {}
        for k in marks.keys() | labels.keys():
            try:
                files[self._names[k]] = fingerprint(self.items.paths[k])
            except OSError:  # the file is gone; the decision about it still stands
                log.warning("cannot read %s; its decision is kept by name alone", self._names[k])
        line = {
            "do": do,
            "id": uuid4().hex,
            "of": of,
            "mark": {self._names[k]: v for k, v in marks.items()},
            "label": {self._names[k]: v for k, v in labels.items()},
            "from": {self._names[k]: self.items.labels[k] for k in labels},
            "files": files,
        }
        try:
            self.ledger.append(line)
        except OSError as err:
            raise OSError(
                f"the decision was not recorded: {self.ledger.path} cannot be written ({err.strerror}); "
                "give ImageCleaner or Review a writable path="
            ) from err
        self._catch_up()

    def _catch_up(self) -> None:
        "Take in the ledger's new lines, our own and those of other reviews of the same folder."
        for line in self.ledger.lines():
            marks, labels = self._meant(line)
            if not marks and not labels:
                continue
            old = {k: self._marks.get(k) for k in marks}, {k: self._labels.get(k) for k in labels}
            step = Step(str(line.get("do")), str(line.get("id")), marks, labels, *old)
            for state, new in ((self._marks, marks), (self._labels, labels)):
                for k, value in new.items():
                    if value is None:
                        state.pop(k, None)
                    else:
                        state[k] = value
            self._remember(step, line.get("of"))
            shown = {k: self.label_of(k) for k in labels}
            for watcher in self._watchers:
                watcher({"do": step.do, "marks": marks, "labels": shown})

    def _meant(self, line: dict) -> tuple[dict[int, str | None], dict[int, str | None]]:
        "Marks and labels of a ledger's line, without those of unknown, of changed and of since relabelled files."
        files, was = line.get("files") or {}, line.get("from") or {}
        marks, labels = (
            {self._at[n]: v for n, v in (line.get(key) or {}).items() if n in self._at}
            for key in ("mark", "label")
        )
        if any(v not in (*MARKS, None) for v in marks.values()):
            log.warning(
                "%s holds a mark that this version does not know; the line is ignored", self.ledger.path
            )
            return {}, {}
        stale = {
            k
            for n, print_ in files.items()
            if (k := self._at.get(n)) is not None and not self._is_same(k, print_)
        }
        moved = {
            k
            for n, label in was.items()
            if (k := self._at.get(n)) is not None and self.items.labels[k] != label
        }
        return (
            {k: v for k, v in marks.items() if k not in stale},
            {k: v for k, v in labels.items() if k not in stale | moved},
        )

    def _remember(self, step: Step, of: str | None) -> None:
        "Put `step` on the stack of undo, or move the step `of` that it undoes or does again."
        if step.do not in ("undo", "redo"):
            self._undo.append(step)
            self._redo.clear()
            return
        source, target = (self._undo, self._redo) if step.do == "undo" else (self._redo, self._undo)
        for known in [s for s in source if s.id == of]:
            source.remove(known)
            target.append(known)

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
    idxs = [entry.tolist() if hasattr(entry, "tolist") else entry for entry in idxs]
    flat = [hasattr(entry, "__index__") for entry in idxs]
    if not any(flat) and all(isinstance(g, (tuple, list, set)) for g in idxs):
        return [g if isinstance(g, Group) else Group(map(operator.index, g)) for g in idxs]
    if not all(flat):
        wrong = next(entry for entry, ok in zip(idxs, flat, strict=True) if not ok)
        raise TypeError(f"idxs hold {wrong!r:.60}; give groups of item indices, or one flat list of indices")
    flat = [operator.index(k) for k in idxs]
    if not duplicates:
        return [Group([k]) for k in flat]
    if len(flat) % 2:
        raise ValueError(
            f"a flat list of pairs has {len(flat)} entries; give an even number, two for each pair"
        )
    return [Group(pair) for pair in zip(flat[::2], flat[1::2], strict=True)]
