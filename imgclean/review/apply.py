"""From decisions to a clean dataset: what would be done, what is refused and why, and doing it."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..dataset.cleaned import write_csv
from ..dataset.items import relative_to
from ..dataset.quarantine import Moved, move_out, quarantined, system_trash, write_manifest
from ..dataset.wording import counted

if TYPE_CHECKING:
    from .session import Review

ACTIONS = ("csv", "quarantine", "trash")
MAX_LINKS = 40  # that Linux follows


class EveryCopyLost(ValueError):
    "A group would lose all of its images"


@dataclass(frozen=True)
class Plan:
    "What `apply` would do with each image that is marked for deletion"

    action: str
    leave_out: tuple[int, ...]  # items that `cleaned.csv` does not list
    move: tuple[int, ...]  # items whose files move
    refused: dict[int, str]  # item -> why its decision, or the move of its file, is not carried out
    lost: tuple[int, ...]  # groups of which no copy would stay


@dataclass(frozen=True)
class Applied:
    "What `apply` did"

    csv: Path
    kept: int
    deleted: int
    relabeled: int
    quarantined: int = 0
    trashed: int = 0
    refused: dict[str, str] = field(default_factory=dict)  # name -> why it was not done
    manifest: Path | None = None  # for `restore`
    undecided: int = 0  # groups of which an image carries no mark and so stays

    def __str__(self) -> str:
        done = f"wrote {self.csv}: {counted(self.kept, 'image')} kept, {self.deleted} left out, {self.relabeled} relabelled; "
        moved = (
            [f"{counted(self.quarantined, 'file')} moved to {self.manifest.parent}"]
            if self.quarantined
            else []
        )
        moved += [f"{counted(self.trashed, 'file')} sent to the trash"] if self.trashed else []
        done += ", ".join(moved) or "no image file was touched"
        if self.undecided:
            are = "is" if self.undecided == 1 else "are"
            done += (
                f"; {counted(self.undecided, 'group')} {are} not decided yet, what is unmarked there stays"
            )
        if self.refused:
            name, why = next(iter(self.refused.items()))
            done += f"; {len(self.refused)} refused, the first is {name}: {why}"
        return done


def make_plan(review: Review, action: str) -> Plan:
    "The `Plan` of what is marked in `review`; touches nothing."
    if action not in ACTIONS:
        raise ValueError(f"action is {action!r}; give one of {', '.join(ACTIONS)}")
    leave_out, move, refused = [], [], {}
    for k in review.deleted:
        why = _not_meant(review, k, read=action != "csv")
        if why:
            refused[k] = why
            continue
        leave_out.append(k)
        if action == "csv":
            continue
        why = _not_movable(review, k)
        if why:
            refused[k] = why
        else:
            move.append(k)
    if move:
        linked = _needed_elsewhere(review, set(leave_out), move)
        refused |= linked
        move = [k for k in move if k not in linked]
    before = _moved_before(review, refused)
    refused = {k: why for k, why in refused.items() if k not in before}
    lost = _lost(review, set(leave_out))
    return Plan(action, tuple(leave_out), tuple(move), refused, tuple(lost))


def in_words(review: Review, plan: Plan) -> dict:
    "What `Review.plan` returns: JSON can hold it."
    done = dict.fromkeys(plan.leave_out, "leave out") | dict.fromkeys(plan.move, plan.action)
    items, stays = review.items, _stay_for(review, set(plan.leave_out))
    return {
        "action": plan.action,
        "csv": str(review.path / "cleaned.csv"),
        "images": len(items),
        "delete": len(plan.leave_out),
        "move": len(plan.move),
        "bytes": sum(items.n_bytes(k) for k in (plan.leave_out if plan.action == "csv" else plan.move)),
        "relabel": len(review.relabeled),
        "unreadable": len(items.unreadable),
        "undecided": len(review.groups) - review.n_decided,
        "lost": list(plan.lost),
        "refused": {items.relpath(k): why for k, why in plan.refused.items()},
        "files": [
            {
                "name": items.relpath(k),
                "bytes": items.n_bytes(k),
                "action": done.get(k, "nothing"),
                "reason": plan.refused.get(k)
                or (f"{items.relpath(stays[k])} stays" if k in stays else "marked for deletion"),
            }
            for k in review.deleted
        ],
    }


def _stay_for(review: Review, leave_out: set[int]) -> dict[int, int]:
    "For each image that leaves, the first of its copies that stays."
    parts = (part for g in range(len(review.groups)) for part in review.parts(g))
    leaving = (part for part in parts if leave_out.intersection(part))
    stays = ((part, next((k for k in part if _stays(review, k, leave_out)), None)) for part in leaving)
    return {k: one for part, one in stays if one is not None for k in part if k in leave_out}


def carry_out(review: Review, plan: Plan, lose_groups: bool | Collection[int]) -> Applied:
    "Do what `plan` says: manifest, then `cleaned.csv`, then the moves. Raises `EveryCopyLost`."
    agreed = plan.lost if lose_groups is True else lose_groups or ()
    lost = [g for g in plan.lost if g not in agreed]
    if lost:
        shown = ", ".join(f"#{g + 1}" for g in lost[:5]) + (", …" if len(lost) > 5 else "")
        raise EveryCopyLost(
            f"{len(lost)} group(s) would lose every copy: {shown}; keep one of each, or give lose_groups=True"
        )
    trash = system_trash() if plan.action == "trash" else None
    files = {review.items.relpath(k): review.fingerprint_of(k) for k in plan.move}
    manifest = write_manifest(review.items.root, files) if files else None
    csv = write_csv(review.without(plan.leave_out), review.path)
    moved = move_out(manifest, trash) if manifest else Moved([], [], {})
    review.applied = frozenset(plan.leave_out), review.relabeled
    return Applied(
        csv,
        len(review.items) - len(plan.leave_out),
        len(plan.leave_out),
        len(review.relabeled),
        len(moved.quarantined),
        len(moved.trashed),
        {review.items.relpath(k): why for k, why in plan.refused.items()} | moved.failed,
        manifest,
        len(review.groups) - review.n_decided,
    )


def _not_meant(review: Review, k: int, read: bool) -> str | None:
    "Why the decision to delete item `k` does not hold for the file that is there now."
    if k in review.protected:
        return "it is protected"
    if not os.path.lexists(review.items.paths[k]):
        return None
    was = review.fingerprint_of(k)
    if was is None:
        return "it was not there when it was marked; look at it again"
    if not review.known.is_same(k, was, read):
        return "it has changed since it was marked; look at it again"
    return None


def _moved_before(review: Review, ks: Collection[int]) -> set[int]:
    "Those of the items `ks` whose files an earlier `apply` has put into the quarantine."
    prints = {k: was for k in ks if (was := review.fingerprint_of(k))}
    gone = {review.items.relpath(k): k for k in prints if not os.path.lexists(review.items.paths[k])}
    there = quarantined(review.items.root, {name: prints[k] for name, k in gone.items()}) if gone else ()
    return {gone[name] for name in there}


def _not_movable(review: Review, k: int) -> str | None:
    path, root = review.items.paths[k], review.items.root
    try:
        mode = path.lstat().st_mode
    except OSError:
        return "the file is gone already"
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        return "it is no regular file"
    if relative_to(path, root).startswith("../") or not path.resolve().is_relative_to(root.resolve()):
        return f"it lies outside of {root}"
    return None


def _needed_elsewhere(review: Review, leave_out: set[int], move: list[int]) -> dict[int, str]:
    "Files that an image which stays is, or leads through as a link."
    paths, folders = review.items.paths, {}
    taken = defaultdict(list)
    for k in move:
        taken[_place(paths[k], folders)].append(k)
    found = {}
    for other, path in enumerate(paths):
        if other in leave_out:
            continue
        for place in _led_through(path, folders):
            for k in taken.get(place, ()):
                found[k] = f"{review.items.relpath(other)}, which stays, is the same file"
    return found


def _led_through(path: Path, folders: dict[Path, Path]) -> Iterator[Path]:
    "Where `path` lies, and each link and the file that it leads to."
    for _ in range(MAX_LINKS):
        path = _place(path, folders)
        yield path
        try:
            path = path.parent / os.readlink(path)
        except OSError:  # no link
            return


def _place(path: Path, folders: dict[Path, Path]) -> Path:
    "Where `path` itself lies, whatever links its folder was reached by; `folders` remembers those."
    if path.parent not in folders:
        folders[path.parent] = Path(os.path.realpath(path.parent))
    return folders[path.parent] / path.name


def _lost(review: Review, leave_out: set[int]) -> list[int]:
    "Groups of which no image stays that is still what it was when the group was looked at."
    return [
        g
        for g in range(len(review.groups))
        if any(
            len(part) > 1
            and leave_out.intersection(part)
            and not any(_stays(review, k, leave_out) for k in part)
            for part in review.parts(g)
        )
        or (len(review.groups[g]) > 1 and leave_out.issuperset(review.groups[g]))
    ]


def _stays(review: Review, k: int, leave_out: set[int]) -> bool:
    if k in leave_out:
        return False
    was = review.fingerprint_of(k)
    return review.known.is_same(k, was) if was else review.items.paths[k].exists()
