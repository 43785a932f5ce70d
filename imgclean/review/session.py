"""`Review`: which images a person deletes, keeps, tells apart or relabels. Plain Python; knows no widget and no torch."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import RLock

from ..dataset.cleaned import Ledger, ledger_path
from ..dataset.identity import Identities
from ..dataset.items import Items
from ..dataset.quarantine import Restored, manifests, restore, restore_all
from ..find.groups import Group
from .apply import Applied, carry_out, in_words, make_plan
from .clash import Clashes
from .decisions import MARKS, Change, Decisions, Relation, Step
from .filters import Filter, select
from .looks import Look, Looks
from .regroup import split_apart
from .replay import replay
from .suggest import Suggestion, suggested_marks, suggestions


class Review(Clashes):
    """The decisions about the images of `groups`, each on disk before the call returns, with undo and redo.

    Marking changes no image file. Opening a review of the same folder again continues where the last one stopped, also
    where files were moved or renamed; a decision about content that is no longer there is dropped. Images that were told
    to be no duplicates are in no group together again. Several reviews of one folder share their decisions and their
    undo. Safe to use from several threads.
    """

    def __init__(
        self,
        items: Items,
        groups: Iterable[Sequence[int]],  # item indices, the suggested keeper first
        path: str | os.PathLike | None = None,  # gets `cleaned.csv` and the ledger; default `items.root`
        *,
        ledger: str | os.PathLike | None = None,  # of the decisions; default `path/.imgclean/review.jsonl`
    ):
        self.items, self.path = items, Path(path if path is not None else items.root)
        if not self.path.is_dir():
            raise NotADirectoryError(
                f"{str(self.path)!r} is no folder; give the one that cleaned.csv should go to"
            )
        listed = [g if isinstance(g, Group) else Group(g) for g in groups]
        outside = [k for g in listed for k in g if not 0 <= k < len(items)]
        if outside:
            raise ValueError(
                f"idxs name item {outside[0]}, but there are {len(items)} images; give their own dataset"
            )
        if {g.dataset for g in listed} - {None, items.key()}:
            raise ValueError("idxs were found in another dataset; give the `ds` that came with them")
        self.lock = RLock()
        self._watchers: list[Callable[[dict], None]] = []
        self.known = Identities(items, self.path)
        self.applied: tuple[frozenset[int], dict[int, str]] = frozenset(), {}  # what `cleaned.csv` got last
        self.ledger = Ledger(ledger or ledger_path(self.path))
        self._state = Decisions(items, self.known, self.ledger)
        self._state.catch_up()
        self._looks = Looks(items, groups, self.known)
        parts = [split_apart(g, self._state.apart) for g in listed]
        self.groups = [part for found in parts for part in found]
        self.n_apart = sum(not found for found in parts)  # groups of which no two images may be one picture
        self.protected = frozenset(k for g in self.groups for k in g.protected)

    # decisions so far

    @property
    def deleted(self) -> list[int]:
        "Items marked to be left out, sorted."
        return sorted(k for k, mark in self._state.marks.items() if mark == "delete")

    @property
    def kept(self) -> list[int]:
        "Items that a person chose to keep, sorted."
        return sorted(k for k, mark in self._state.marks.items() if mark == "keep")

    @property
    def relabeled(self) -> dict[int, str]:
        "New label of each relabelled item."
        return dict(sorted(self._state.labels.items()))

    @property
    def undecided(self) -> list[int]:
        "Items of the groups that carry no mark, sorted."
        return sorted({k for g in self.groups for k in g} - self._state.marks.keys())

    @property
    def decisions(self) -> dict[str, str]:
        "Relative path -> 'delete' or 'keep', for every marked item."
        return {self.known.names[k]: self._state.marks[k] for k in sorted(self._state.marks)}

    def mark_of(self, k: int) -> str | None:
        "'delete', 'keep' or `None` for item `k`."
        return self._state.marks.get(k)

    def label_of(self, k: int) -> str | None:
        "Label of item `k` after relabelling."
        return self._state.labels.get(k, self.items.labels[k])

    def fingerprint_of(self, k: int) -> list | None:  # [bytes, mtime_ns, blake2b hex digest]
        "What item `k`'s file was when it was last decided about."
        return self._state.prints.get(k)

    def is_apart(self, i: int, j: int) -> bool:
        "Whether a person told that items `i` and `j` are different pictures."
        return self._state.apart(i, j)

    def parts(self, g: int) -> list[list[int]]:
        "The images of group `g`, those told to be other pictures in parts of their own."
        return self._state.apart.parts(self.groups[g])

    def is_decided(self, g: int) -> bool:
        "Whether every image of group `g` carries a mark, or its only one a new label."
        marks, group = self._state.marks, self.groups[g]
        return all(k in marks for k in group) or (len(group) == 1 and group[0] in self._state.labels)

    @property
    def n_decided(self) -> int:
        "Number of groups that are decided."
        return sum(map(self.is_decided, range(len(self.groups))))

    def lost(self) -> list[int]:
        "Groups that would keep no image."
        return list(make_plan(self, "csv").lost)

    # what is known of the groups

    def looks(self, g: int) -> list[Look]:
        "Grade, and what was done to it, of each image of group `g` but the first, beside the first."
        return self._looks.looks(self.groups[g])

    def grade(self, g: int) -> str | None:
        "The worst grade in group `g`, 'exact' at best; None where nobody took a second look."
        return self._looks.grade(self.groups[g])

    @property
    def grades(self) -> list[str]:
        "The grades that groups may have here, best first."
        return self._looks.grades

    def alignment(self, left: int, right: int, g: int) -> list[float] | None:
        "See `Looks.alignment`, for two images of group `g`."
        return self._looks.alignment(left, right, self.groups[self._group(g)][0])

    def is_leak(self, g: int) -> bool:
        "Whether images of group `g` are in several splits: training on one tells the answer to the other."
        return len({self.items.splits[k] for k in self.groups[g]} - {None}) > 1

    def select(
        self,
        wanted: Filter | None = None,
        **fields,  # of a `Filter`, in its place
    ) -> list[int]:
        "Numbers of the groups that fit a `Filter`, in its order."
        with self.lock:
            self._catch_up()
            return select(self, wanted or Filter.of(fields))

    # actions: each is one step of undo

    def mark(self, ks: int | Iterable[int], value: str | None) -> None:
        "Mark items 'delete' or 'keep'; `None` takes the mark away. `ValueError` for deleting what is protected."
        if value not in (*MARKS, None):
            raise ValueError(f"the mark is {value!r}; give 'delete', 'keep' or None")
        ks = self._indices(ks)
        for k in ks:
            if value == "delete" and k in self.protected:
                raise ValueError(
                    f"{self.known.names[k]} is protected; to delete it, find the groups without protecting it"
                )
        self._do("mark", Change(dict.fromkeys(ks, value)))

    def keep_only(self, ks: int | Iterable[int], gs: int | Iterable[int] | None = None) -> None:
        """Keep items `ks` and delete the others of groups `gs`, by default of every group that they are in.

        What is protected is kept, and what was told to be another picture stays as it is, unless all of a single group was.
        """
        ks, listed = set(self._indices(ks)), self._groups(gs)
        back = self._reunited(listed[0]) if gs is not None and len(listed) == 1 else {}
        pairs = ((c, k) for g in listed for k in ks.intersection(self.groups[g]) for c in self.groups[g])
        copies = {c for c, k in pairs if back or not self.is_apart(c, k)}
        marks = {c: "keep" if c in self.protected else "delete" for c in copies}
        self._do("keep only", Change(marks | dict.fromkeys(ks, "keep"), apart=back))

    def keep_all(self, gs: int | Iterable[int]) -> None:
        "Keep every image of groups `gs`: those of one are no duplicates, and will be in no group together again."
        groups = [self.groups[g] for g in self._groups(gs)]
        apart = {Relation(group, group): True for group in groups if len(set(group)) > 1}
        self._do("keep all", Change({k: "keep" for group in groups for k in group}, apart=apart))

    def not_duplicate(self, ks: int | Iterable[int], g: int) -> None:
        """Tell that images `ks` of group `g` are another picture than its other images; they will not meet again.

        What has no copy left in the group is kept.
        """
        ks, group = set(self._indices(ks)), self.groups[self._group(g)]
        if not ks < set(group):
            raise ValueError(
                f"not all of {sorted(ks)} are in group {g}, or all of its images are; give some of {list(group)}"
            )
        relation = Relation(ks, set(group) - ks)
        alone = [part[0] for part in self._state.apart.parts(group, relation) if len(part) == 1]
        self._do("not duplicate", Change(dict.fromkeys(alone, "keep"), apart={relation: True}))

    def keep_best(self, gs: int | Iterable[int] | None = None) -> None:
        """Take the suggestion for groups `gs`, by default for all, whatever is marked there: see `suggestions`.

        Where groups share images, as fastai v1's pairs do, none of them loses its last one. For a single group whose
        images all were told to be different pictures, that is taken back.
        """
        gs = self._groups(gs)
        back = self._reunited(gs[0]) if len(gs) == 1 else {}
        self._do("keep best", Change(suggested_marks(self, gs, {}, bool(back)), apart=back))

    def suggestions(
        self,
        gs: int | Iterable[int] | None = None,  # default: all groups
        grade: str | None = None,  # only groups of this grade, such as 'exact'
    ) -> list[Suggestion]:
        "What to do with the images of groups `gs` that carry no mark yet, and why."
        with self.lock:
            self._catch_up()
            return suggestions(self, self._groups(gs, grade), self._state.marks)

    def accept_suggestions(self, gs: int | Iterable[int] | None = None, grade: str | None = None) -> int:
        "Do what `suggestions` says where labels agree, as one step; returns the number of images marked."
        with self.lock:
            self._catch_up()
            marks = suggested_marks(self, self.agreed(self._groups(gs, grade)), self._state.marks)
            self._do("accept suggestions", Change(marks))
            return len(marks)

    def accept(self, g: int) -> None:
        "Keep those images of group `g` that carry no mark yet."
        unmarked = [k for k in self.groups[self._group(g)] if k not in self._state.marks]
        self._do("accept", Change(dict.fromkeys(unmarked, "keep")))

    def relabel(self, ks: int | Iterable[int], label: str | None) -> None:
        "Give items a new label; `None` or the old one takes the change back."
        if label is not None and not isinstance(label, str):
            raise ValueError(f"the label is {label!r}; give a text, or None")
        self._do("relabel", Change(labels={k: self._own(k, label) for k in self._indices(ks)}))

    def replay(
        self,
        ledger: str | os.PathLike,  # of another copy of the folder, or saved from an earlier one
    ) -> dict[str, int]:
        """Take over the decisions of another ledger as one step: those about content that is here, too.

        Returns how many of its decisions were `taken`, `here` already, about content that is `elsewhere`, or `protected`.
        """
        if not Path(ledger).is_file():
            raise FileNotFoundError(f"there is no ledger {str(ledger)!r}; give a review.jsonl")
        with self.lock:
            self._catch_up()
            return replay(self._state, self.path, Path(ledger), self.protected, self._do)

    def undo(self) -> list[int] | None:
        "Take the last action back; returns the items that changed, `None` where there is nothing to undo."
        with self.lock:
            self._catch_up()
            return self._repeat("undo", self._state.done)

    def redo(self) -> list[int] | None:
        "Do again what was last undone; returns the items that changed, `None` where there is nothing."
        with self.lock:
            self._catch_up()
            return self._repeat("redo", self._state.undone)

    def next_undecided(self, after: int = -1) -> int | None:
        "The first group behind group `after` that lacks a mark, from the start if there is none; `None` if all are done."
        n = len(self.groups)
        order = [g % n for g in range(after + 1, after + 1 + n)] if n else []
        return next((g for g in order if not self.is_decided(g)), None)

    # the outcome

    def cleaned(self) -> Items:
        "The dataset without the images that `apply` leaves out, with the new labels."
        with self.lock:
            self._catch_up()
            return self.without(make_plan(self, "csv").leave_out)

    def without(self, ks: Collection[int]) -> Items:
        "The dataset without items `ks`, with the new labels."
        labels = tuple(self.label_of(k) for k in range(len(self.items)))
        out = set(ks)
        return replace(self.items, labels=labels).subset([k for k in range(len(self.items)) if k not in out])

    def plan(self, action: str = "csv") -> dict:
        """What `apply` would do, as numbers and words; touches nothing.

        `files` lists each image that is marked for deletion: name, bytes, what happens to it and why.
        """
        with self.lock:
            self._catch_up()
            return in_words(self, make_plan(self, action))

    def apply(
        self,
        lose_groups: bool | Collection[int] = False,  # groups that may lose every copy; True: any
        *,
        action: str = "csv",  # or "quarantine": move the files to a folder beside; "trash": to the system's
    ) -> Applied:
        """Write `cleaned.csv`: one row `name,label` for each image that stays; by default no image file is touched.

        Files that changed since they were marked, are protected, outside of the dataset or gone (but to its quarantine)
        are refused with the reason, and stop no other. Raises `EveryCopyLost` where a group would keep no image,
        `ImportError` where `action` is "trash" and send2trash is not installed.
        """
        with self.lock:
            self._catch_up()
            return carry_out(self, make_plan(self, action), lose_groups)

    def restore(
        self,
        manifest: str | os.PathLike | Applied | None = None,  # of one quarantine; default: of all
    ) -> Restored:
        "Put quarantined files back; the decisions stay as they are. `ValueError` where there is no quarantine."
        file = manifest.manifest if isinstance(manifest, Applied) else manifest
        if manifest is not None and file is None:
            raise ValueError("this apply moved no file out of the dataset; there is nothing to restore")
        back = restore_all(self.items.root) if file is None else restore(file)
        self.applied = (frozenset(), {}) if back.restored else self.applied  # so that it can be applied again
        return back

    @property
    def quarantines(self) -> list[Path]:
        "Manifests of everything that `apply` moved, oldest first, also where it was killed on the way."
        return manifests(self.items.root)

    def on_change(self, watcher: Callable[[dict], None]) -> None:
        """Call `watcher({'do': str, 'marks': {item: mark}, 'labels': {item: label}, 'apart': items})` after every change.

        `apart` lists the items of which it was told, or is no longer, that they are other pictures.
        """
        self._watchers.append(watcher)

    # inside

    def _indices(self, ks: int | Iterable[int]) -> list[int]:
        ks = [ks] if hasattr(ks, "__index__") else ks
        ks = [operator.index(k) for k in ks]
        for k in ks:
            if not 0 <= k < len(self.items):
                raise ValueError(f"there is no item {k}; items go from 0 to {len(self.items) - 1}")
        return ks

    def _own(self, k: int, label: str | None) -> str | None:
        "A new label as the ledger has it: None for the dataset's own."
        return None if label == self.items.labels[k] else label

    def _group(self, g: int) -> int:
        if not 0 <= g < len(self.groups):
            raise ValueError(f"there is no group {g}; groups go from 0 to {len(self.groups) - 1}")
        return g

    def _groups(self, gs: int | Iterable[int] | None, grade: str | None = None) -> list[int]:
        gs = range(len(self.groups)) if gs is None else [gs] if hasattr(gs, "__index__") else gs
        return [self._group(g) for g in gs if grade is None or self.grade(self._group(g)) == grade]

    def _reunited(self, g: int) -> dict[Relation, None]:
        "What tells the images of group `g` apart, to be taken back, where none has a copy left in it."
        group, apart = self.groups[g], self._state.apart
        if len(group) < 2 or len(self.parts(g)) < len(group):
            return {}
        return {relation: None for relation in apart.relations if relation.items <= set(group)}

    def _do(self, do: str, change: Change) -> None:
        with self.lock:
            self._catch_up()
            change = self._state.differing(change)
            if change:
                self._state.record(do, change)
                self._catch_up()

    def _repeat(self, do: str, steps: list[Step]) -> list[int] | None:
        if not steps:
            return None
        step = steps[-1]
        change = step.old if do == "undo" else step.new
        self._state.record(do, change, step.id)
        self._catch_up()
        return change.items

    def _catch_up(self) -> None:
        for step in self._state.catch_up():
            heard = {
                "do": step.do,
                "marks": step.new.marks,
                "labels": {k: self.label_of(k) for k in step.new.labels},
                "apart": sorted({k for relation in step.new.apart for k in relation.items}),
            }
            for watcher in self._watchers:
                watcher(heard)
