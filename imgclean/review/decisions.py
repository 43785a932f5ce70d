"""`Decisions`: what the lines of a ledger add up to for the images of a dataset, with undo and redo."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from ..dataset.cleaned import Ledger
from ..dataset.identity import Identities
from ..dataset.items import Items

log = logging.getLogger(__name__)
MARKS = ("delete", "keep")
VERSION = 2  # of a line


class Relation(tuple):
    "Two sorted tuples of items: none of the first shows the picture of one of the second (other than itself)"

    def __new__(cls, one: Iterable[int], others: Iterable[int]):
        return super().__new__(cls, sorted((tuple(sorted(set(one))), tuple(sorted(set(others))))))

    @property
    def items(self) -> set[int]:
        "All items that it speaks of."
        return {*self[0], *self[1]}

    def separates(self, i: int, j: int) -> bool:
        "Whether it says that items `i` and `j` are different pictures."
        return i != j and ((i in self[0] and j in self[1]) or (i in self[1] and j in self[0]))


@dataclass(frozen=True)
class Change:
    "New values; `None` means undecided, the dataset's own label, not told apart"

    marks: dict[int, str | None] = field(default_factory=dict)
    labels: dict[int, str | None] = field(default_factory=dict)
    apart: dict[Relation, bool | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.marks or self.labels or self.apart)

    @property
    def items(self) -> list[int]:
        "All items that change."
        return [*dict.fromkeys([*self.marks, *self.labels, *(k for r in self.apart for k in r.items)])]


@dataclass(frozen=True)
class Step:
    "One action, and what it takes to go back"

    do: str
    id: str
    new: Change
    old: Change


class Apart:
    "The images that a person told to be different pictures"

    def __init__(self):
        self.relations: dict[Relation, bool] = {}
        self._of: dict[int, list[tuple[frozenset, frozenset]]] = defaultdict(list)

    def set(self, relation: Relation, value: bool | None) -> None:
        "Add a relation, or with `None` take it away."
        sides = frozenset(relation[0]), frozenset(relation[1])
        if value and relation not in self.relations:
            self.relations[relation] = True
            for k in relation.items:
                self._of[k].append(sides)
        elif not value and self.relations.pop(relation, None):
            for k in relation.items:
                self._of[k].remove(sides)

    def __call__(self, i: int, j: int) -> bool:
        "Whether items `i` and `j` are known to be different pictures."
        return i != j and any((i in a and j in b) or (i in b and j in a) for a, b in self._of.get(i, ()))

    def parts(self, group: Sequence[int], also: Relation | None = None) -> list[list[int]]:
        "The images of `group` without those that are apart under one roof, each part in the group's order."
        if also is None and not any(self._of.get(k) for k in group):
            return [list(group)]

        def differ(i: int, j: int) -> bool:
            return self(i, j) or (also is not None and also.separates(i, j))

        parts: list[list[int]] = []
        for k in group:
            home = next((part for part in parts if not any(differ(k, other) for other in part)), None)
            if home is None:
                parts.append([k])
            else:
                home.append(k)
        return parts


class Decisions:
    "Marks, labels and what is no duplicate, as the ledger says, for the items whose content is still the same"

    def __init__(self, items: Items, known: Identities, ledger: Ledger):
        self.items, self.known, self.ledger = items, known, ledger
        self.marks: dict[int, str] = {}
        self.labels: dict[int, str] = {}
        self.apart = Apart()
        self.prints: dict[int, list] = {}  # fingerprint of each item when it was last decided about
        self.undone: list[Step] = []
        self.done: list[Step] = []

    def differing(self, change: Change) -> Change:
        "The part of `change` that is not so already."
        return Change(
            {k: v for k, v in change.marks.items() if self.marks.get(k) != v},
            {k: v for k, v in change.labels.items() if self.labels.get(k) != v},
            {r: v for r, v in change.apart.items() if self.apart.relations.get(r) != v},
        )

    def record(self, do: str, change: Change, of: str | None = None) -> None:
        "Append to the ledger; what cannot be written raises `OSError` and is not decided."
        names, files = self.known.names, self.known.files(change.items)
        for k in change.items:
            if names[k] not in files:  # the file is gone; the decision about it still stands
                log.warning("cannot read %s; its decision is kept by name alone", names[k])
        line = {
            "version": VERSION,
            "do": do,
            "id": uuid4().hex,
            "of": of,
            "mark": {names[k]: v for k, v in change.marks.items()},
            "label": {names[k]: v for k, v in change.labels.items()},
            "from": {names[k]: self.items.labels[k] for k in change.labels},
            "files": files,
        }
        if change.apart:
            line["apart"] = [[*([names[k] for k in side] for side in r), v] for r, v in change.apart.items()]
        try:
            self.ledger.append(line)
        except OSError as err:
            raise OSError(
                f"the decision was not recorded: {self.ledger.path} cannot be written ({err.strerror}); "
                "give ImageCleaner or Review a writable path="
            ) from err

    def catch_up(self) -> list[Step]:
        "Take in the ledger's new lines, our own and those of other reviews of the same folder."
        return [self.take(*found) for found in self.meant(self.ledger.lines()) if found[1]]

    def meant(
        self,
        lines: Iterable[dict],
        by_name: bool = True,  # whether a name without a fingerprint is enough
    ) -> Iterator[tuple[dict, Change, dict[str, int]]]:
        "Lines of a ledger, what they say about content that is still here, and the items that their names mean."
        for line in lines:
            if self._is_sound(line):
                # Lines of old do not say which copies there were.
                placed = self.known.place(line.get("files") or {}, moved=line.get("version") == VERSION)
                yield line, self._change(line, placed, by_name), placed

    def _is_sound(self, line: dict) -> bool:
        "Whether a line has the form that this version writes or older ones wrote."
        try:
            values = set((line.get("mark") or {}).values())
            sound = values <= {*MARKS, None}
            for was in (line.get("files") or {}).values():
                sound = sound and len(was) == 3 and isinstance(was[2], str)
            for label in (*(line.get("label") or {}).values(), *(line.get("from") or {}).values()):
                sound = sound and (label is None or isinstance(label, str))
            for one, others, value in line.get("apart") or ():
                sound = sound and value in (True, None) and all(isinstance(n, str) for n in (*one, *others))
        except (TypeError, ValueError, AttributeError):
            sound = False
        if not sound:
            log.warning("a ledger holds a line that this version does not know; it is ignored: %.200r", line)
        return sound

    def _change(self, line: dict, placed: dict[str, int], by_name: bool) -> Change:
        files = line.get("files") or {}

        def item(name: str) -> int | None:
            known_by_name = by_name and name not in files
            return self.known.by_name(name) if known_by_name else placed.get(name)

        def found(values: dict) -> dict:
            return {k: v for name, v in values.items() if (k := item(name)) is not None}

        labels, before = found(line.get("label") or {}), found(line.get("from") or {})
        # What was relabelled elsewhere since is not overridden.
        labels = {k: v for k, v in labels.items() if k not in before or self.items.labels[k] == before[k]}
        apart = {}
        for one, others, value in line.get("apart") or ():
            one, others = (found(dict.fromkeys(side)) for side in (one, others))
            if one and others and len({*one, *others}) > 1:
                apart[Relation(one, others)] = value
        return Change(found(line.get("mark") or {}), labels, apart)

    def take(self, line: dict, change: Change, placed: dict[str, int]) -> Step:
        "Add what `meant` said of a line."
        old = Change(
            {k: self.marks.get(k) for k in change.marks},
            {k: self.labels.get(k) for k in change.labels},
            {r: self.apart.relations.get(r) for r in change.apart},
        )
        step = Step(str(line.get("do")), str(line.get("id")), change, old)
        for state, new in ((self.marks, change.marks), (self.labels, change.labels)):
            for k, value in new.items():
                if value is None:
                    state.pop(k, None)
                else:
                    state[k] = value
        for relation, value in change.apart.items():
            self.apart.set(relation, value)
        decided = set(change.items)
        for name, k in placed.items():
            if (
                k in decided or k not in self.prints
            ):  # no copy's decision is taken for one about what is there now
                self.prints[k] = line["files"][name]
        self._remember(step, line.get("of"))
        return step

    def _remember(self, step: Step, of: str | None) -> None:
        "Put `step` on the stack of undo, or move the step `of` that it undoes or does again."
        if step.do not in ("undo", "redo"):
            self.done.append(step)
            self.undone.clear()
            return
        source, target = (self.done, self.undone) if step.do == "undo" else (self.undone, self.done)
        for known in [s for s in source if s.id == of]:
            source.remove(known)
            target.append(known)
