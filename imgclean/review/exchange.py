"""Decisions as a file of their own, from a review on one machine to `apply` on another, or from the HTML page."""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..dataset.cleaned import Ledger, ledger_path
from ..dataset.identity import Identities
from ..dataset.images import reading_errors
from ..dataset.items import Items, relative_names
from ..dataset.quarantine import leads_outside, quarantined
from ..dataset.stored import read_json, written_whole
from ..find.groups import Group
from .decisions import MARKS, VERSION, Apart, Change, Decisions, Relation
from .session import Review

KIND, FORMAT = "decisions", 1
STEP = "decisions"  # in a ledger: what a file brought in, which a later file may change
KEYS = [
    "imgclean", "version", "root", "dataset", "rows", "unreadable", "groups", "files", "mark", "label", "from", "apart"
]  # fmt: skip


@dataclass(frozen=True)
class Exported:
    "What a file of decisions says; names are relative to `root`"

    root: Path
    dataset: Path | None  # the folder or table that the dataset is read from
    rows: list | None  # [name, label, split] of each image, where there is no such
    unreadable: list[str]  # files of the dataset that are no images
    groups: list[dict]  # {"images": [names], "protected": [names]}
    files: dict[str, list]  # name -> [bytes, blake2b hex digest]
    mark: dict[str, str | None]  # None, here and below: what the page began with was taken back
    label: dict[str, str | None]
    before: dict[str, str | None]  # labels in the dataset of those that have new ones
    apart: list  # [[names], [names of other pictures]]


@dataclass(frozen=True)
class Taken:
    "What became of the decisions of a file in a review"

    taken: int  # marks and labels that hold now
    gone: tuple[str, ...]  # whose content is nowhere in the dataset
    last: tuple[str, ...]  # to be deleted, but the copies that were to stay are gone: now they stay
    differ: tuple[str, ...]  # about which the review of the folder says otherwise
    done: tuple[str, ...] = ()  # to be deleted, and in the folder's quarantine already

    def __str__(self) -> str:
        said = f"{self.taken} decisions taken"
        if self.done:
            said += f"; {len(self.done)} were carried out before, their images are in the quarantine"
        for names, why in (
            (self.gone, "are about images that are gone or have changed"),
            (
                self.last,
                "would delete an image whose copies are gone or have changed, and are not carried out",
            ),
            (self.differ, "differ from what was decided in the folder's own grid, which stands"),
        ):
            if names:
                said += f"; {len(names)} {why}, the first is {names[0]}"
        return said


def export_decisions(
    review: Review,  # or the `ImageCleaner` that shows one
    file: str | os.PathLike,
    dataset: str
    | os.PathLike
    | None = None,  # folder or table that the images are read from; default: they are listed
) -> Path:
    """Path of a JSON file with all decisions, for `imgclean apply` (docs/decisions.md).

    Raises `ValueError` where an image of the dataset lies outside of its root.
    """
    review = getattr(review, "review", review)
    with review.lock:
        data = _as_data(review, dataset)
    outside = next(filter(leads_outside, _names(_checked(data))), None)
    if outside is not None:
        raise ValueError(
            f"{outside} lies outside of {str(review.items.root)!r}, so its decision cannot be told by name; "
            "give the dataset a root that holds all images"
        )
    text = sealed(data)
    with written_whole(file) as f:
        f.write(text.encode())
    return Path(file)


def sealed(data: Mapping) -> str:
    "JSON of `data` and the checksum of it, by which `read_decisions` knows that nobody edited it."
    text = _compact(data)
    return text[:-1] + f',"checksum":"{_checksum(text)}"}}\n'


def _as_data(review: Review, dataset: str | os.PathLike | None) -> dict:
    items, state = review.items, review._state
    # Those of the review may be relative to another folder.
    names = Identities(items, items.root).names
    told = sorted({*(k for g in review.groups for k in g), *state.marks, *state.labels})
    told += [k for relation in state.apart.relations for k in relation.items]
    at = {name: k for k, name in enumerate(review.known.names)}
    groups = [
        {"images": [names[k] for k in g], "protected": [names[k] for k in g.protected]} for g in review.groups
    ]
    return dict(zip(KEYS, (
        KIND, FORMAT, os.path.abspath(items.root), None if dataset is None else os.path.abspath(dataset),
        listing(items) if dataset is None else None, unreadable(items), groups,
        {names[at[n]]: [size, digest] for n, (size, _, digest) in review.known.files(told).items()},
        {names[k]: mark for k, mark in sorted(state.marks.items())},
        {names[k]: label for k, label in sorted(state.labels.items())},
        {names[k]: items.labels[k] for k in sorted(state.labels)},
        [[[names[k] for k in side] for side in relation] for relation in state.apart.relations],
    ), strict=True))  # fmt: skip


def listing(items: Items) -> list[list]:  # [name, label, split] of each image
    "A dataset as the file has it that no folder or table holds."
    return [[items.relpath(k), items.labels[k], items.splits[k]] for k in range(len(items))]


def unreadable(items: Items) -> list[str]:
    "Names of the files of a dataset that are no images; without those outside of its root."
    names = relative_names([bad.path for bad in items.unreadable], items.root)
    return sorted({name for name in names if not leads_outside(name)})


def read_decisions(file: str | os.PathLike) -> Exported:
    """What a file of decisions says, from `export_decisions` or the HTML page.

    Raises `ValueError` where it is none, was edited or cut off, or names a file outside of its folder.
    """
    wrong = f"{str(file)!r} holds no decisions of imgclean; give the file that the HTML page or export_decisions wrote"
    try:
        data = read_json(file)
        if data["imgclean"] != KIND:
            raise ValueError(wrong)
        version, seal = data["version"], data.pop("checksum", None)
        if version != FORMAT:
            raise _Refused(
                f"{str(file)!r} is of version {version!r}, this imgclean reads version {FORMAT}; export it anew"
            )
        if seal != _checksum(_compact(data)):
            raise _Refused(
                f"{str(file)!r} was edited or cut off since it was exported; export the decisions anew"
            )
        said = _checked(data)
    except _Refused as err:
        raise ValueError(str(err)) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise ValueError(wrong) from err
    outside = next(filter(leads_outside, _names(said)), None)
    if outside is not None:
        raise ValueError(
            f"{str(file)!r} names {outside!r}, which may lie outside of {str(said.root)!r}; nothing was done"
        )
    return said


def _checked(data: dict) -> Exported:
    "`data` in the form that is expected; raises one of the errors that `read_decisions` knows."
    said = Exported(
        Path(data["root"]), None if data["dataset"] is None else Path(data["dataset"]), data["rows"], list(data["unreadable"]),
        list(data["groups"]), dict(data["files"]), dict(data["mark"]), dict(data["label"]), dict(data["from"]), list(data["apart"]),
    )  # fmt: skip
    sound = (said.dataset is None) != (said.rows is None)
    sound = sound and all(map(_is_place, filter(None, (said.root, said.dataset))))
    sound = sound and all(map(_is_text, _names(said))) and set(said.mark.values()) <= {*MARKS, None}
    for label in (*said.label.values(), *said.before.values()):
        sound = sound and (label is None or _is_text(label))
    for size, digest in said.files.values():
        sound = sound and isinstance(size, int) and isinstance(digest, str)
    for _, *words in said.rows or ():
        sound = sound and len(words) == 2 and all(w is None or _is_text(w) for w in words)
    if not sound:
        raise ValueError
    return said


def _is_place(path: Path) -> bool:
    "Whether `path` is absolute, here or on the machine that wrote it."
    return any(system(path).is_absolute() for system in (PurePosixPath, PureWindowsPath))


def _is_text(value: object) -> bool:
    "Whether it can be a name, or stand in a csv: a half of a surrogate pair cannot."
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeError:
        return False
    return True


def _names(said: Exported) -> Iterator[str]:
    "Every name of a file."
    groups = chain.from_iterable((*g["images"], *g["protected"]) for g in said.groups)
    apart = chain.from_iterable((*one, *others) for one, others in said.apart)
    rows = (row[0] for row in said.rows or ())
    return chain(groups, apart, rows, said.unreadable, said.files, said.mark, said.label, said.before)


@contextmanager
def reviewed(
    said: Exported,
    items: Items,  # the dataset that `said` names, or lists
    *,
    dry_run: bool = False,  # a ledger for the time being in place of the folder's own
) -> Iterator[tuple[Review, Taken]]:
    "A `Review` of the groups of `said` that took over its decisions, and what became of them."
    known = Identities(items, items.root)
    placed = known.place(_prints(said))
    groups = [
        Group(
            [placed[n] for n in g["images"] if n in placed],
            protected=[placed[n] for n in g["protected"] if n in placed],
        )
        for g in said.groups
        if any(n in placed for n in g["images"])
    ]
    last, ours = _last_copies(said, placed), ledger_path(items.root)
    with tempfile.TemporaryDirectory(prefix="imgclean-") as folder:
        if dry_run:
            ours, kept = Path(folder) / "review.jsonl", ours
            Ledger(kept).copy_to(ours)
        review = Review(items, groups, items.root, ledger=ours)
        _take_over(review, known, said, last)
        yield review, _what_became(said, review, placed, last)


def _take_over(review: Review, known: Identities, said: Exported, last: Collection[str]) -> None:
    "The decisions of `said` as one step; those of a person in the folder's own grid stand, but none deletes what `said` spares."
    ours = review._state
    theirs = Decisions(review.items, known, review.ledger)  # asked only what names mean
    for _, wanted, _ in theirs.meant([_as_line(said, last)], by_name=False):
        stand = _decided_here(ours, "marks")
        marks = {
            k: mark
            for k, mark in wanted.marks.items()
            if (k not in stand or (mark != "delete" and ours.marks[k] == "delete"))
            and not (mark == "delete" and k in review.protected)
        }
        labels = {k: v for k, v in wanted.labels.items() if k not in _decided_here(ours, "labels")}
        review._do(STEP, Change(marks, labels, wanted.apart))


def _decided_here(ours: Decisions, kind: str) -> set[int]:
    "Items whose mark or label a person gave in a grid, not an earlier file."
    last = {k: step.do for step in ours.done for k in getattr(step.new, kind)}
    return {k for k in getattr(ours, kind) if last.get(k) != STEP}


def _last_copies(said: Exported, placed: Mapping[str, int]) -> list[str]:
    "Names to be deleted of which no copy that was to stay is there any more."
    number = {name: k for k, name in enumerate(dict.fromkeys(_names(said)))}
    apart = Apart()
    for one, others in said.apart:
        apart.set(Relation([number[n] for n in one], [number[n] for n in others]), True)
    name_of, last = [*number], []
    for g in said.groups:
        for part in apart.parts([number[n] for n in g["images"]]):
            names = [name_of[k] for k in part]
            staying = [n for n in names if said.mark.get(n) != "delete"]
            if staying and not any(n in placed for n in staying):
                last += [n for n in names if n in placed]
    return last


def items_listed(said: Exported, root: Path) -> Items:
    "The dataset that `said` lists."
    names, labels, splits = zip(*said.rows, strict=True) if said.rows else ((), (), ())
    return Items(tuple(root / name for name in names), labels, splits, root)


def without_unreadable(said: Exported, items: Items) -> Items:
    "`items` without those that `said` knows to be no images, where they are none still."
    known = set(said.unreadable)
    ks = [k for k in range(len(items)) if items.relpath(k) in known]
    errors = reading_errors([items.paths[k] for k in ks])
    return items.without({ks[place]: why for place, why in errors.items()})


def _as_line(said: Exported, last: Collection[str]) -> dict:
    "The decisions as one line of a ledger."
    return {
        "version": VERSION,
        "do": STEP,
        "id": STEP,
        "mark": {name: mark for name, mark in said.mark.items() if name not in last},
        "label": said.label,
        "from": said.before,
        "files": _prints(said),
        "apart": [[one, others, True] for one, others in said.apart],
    }


def _prints(said: Exported) -> dict[str, list]:
    "Fingerprints without a time: the content alone tells whether a file is the same."
    return {name: [size, 0, digest] for name, (size, digest) in said.files.items()}


def _what_became(said: Exported, review: Review, placed: Mapping[str, int], last: Collection[str]) -> Taken:
    wanted = [(n, v, review.mark_of) for n, v in said.mark.items() if n not in last]
    wanted += [(n, v, review.relabeled.get if v is None else review.label_of) for n, v in said.label.items()]
    gone = [name for name, *_ in wanted if name not in placed]
    prints = _prints(said)
    to_go = {name: prints[name] for name in gone if name in prints and said.mark.get(name) == "delete"}
    moved = quarantined(review.items.root, to_go)
    done = [name for name in gone if name in moved]
    differ = [n for n, value, now in wanted if n in placed and now(placed[n]) != value]
    return Taken(
        len(wanted) - len(gone) - len(differ),
        *(tuple(dict.fromkeys(n)) for n in ([n for n in gone if n not in moved], last, differ, done)),
    )


def _compact(data: Mapping) -> str:
    return json.dumps(data, separators=(",", ":"))  # ASCII: any file name survives, and any editor shows it


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


class _Refused(ValueError):
    "An error that is told as it is"
