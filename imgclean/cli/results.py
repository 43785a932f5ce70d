"""What `find` found, as JSON (docs/json.md), as rows of a table, and on the terminal."""

from __future__ import annotations

import json
import os
from time import perf_counter
from typing import TYPE_CHECKING

import typer

from ..dataset.wording import counted
from .common import STARTED, printable, relative, table

if TYPE_CHECKING:
    from ..dataset.items import Items
    from ..find.groups import Group, Groups
    from ..leaks import Leaks
    from ..review.looks import Looks

SHOWN = 50  # groups in the table on the terminal; files hold all
LISTED = 10  # images of a group there
DID = {"hash": "hashed", "plant": "tried edited copies", "compare": "compared", "check": "looked again", "calibrate": "calibrated"}  # fmt: skip


def as_json(ds: Items, groups: Groups) -> str:
    "The result of `find` in JSON, version 1 (docs/json.md): the same bytes for the same images and settings."
    rel = ds.relpath
    pairs = [(*sorted((rel(i), rel(j))), round(score, 6)) for i, j, score in groups.pairs]
    looks = _second_looks(ds, groups) if groups.found else {}
    found = {
        "version": 1,
        "root": os.path.abspath(ds.root),
        "settings": groups.settings,
        "images": groups.looked_at or len(ds),
        "groups": [
            {
                "images": [rel(k) for k in g],
                "keeper": rel(g[0]),
                "reason": g.reason,
                "protected": [rel(k) for k in g.protected],
                "similarity": round(g.similarity, 6),
            }
            for g in groups
        ],
        "pairs": [
            {"a": a, "b": b, "similarity": s} | looks.get((a, b), {})
            for a, b, s in sorted(pairs, key=lambda p: (-p[2], p[0], p[1]))
        ],
        "unreadable": [{"path": relative(u.path, ds.root), "error": u.error} for u in ds.unreadable],
    }
    # ASCII: any file name survives, even one that is no valid UTF-8.
    return json.dumps(found, indent=1) + "\n"


def _second_looks(ds: Items, groups: Groups) -> dict[tuple[str, str], dict]:
    "What is known of each pair, by its sorted names; said of the image that comes later in their group."
    known = _looks(ds, groups)
    place = {k: (number, at) for number, g in enumerate(groups) for at, k in enumerate(g)}
    found = {}
    for (i, j, _), stage in zip(groups.pairs, groups.found.stages, strict=True):
        other, edited = sorted((i, j), key=lambda k: place.get(k, (len(groups), -k)))
        look = known.look(other, edited)
        names = tuple(sorted((ds.relpath(i), ds.relpath(j))))
        found[names] = {
            "grade": look.grade,
            "edited": ds.relpath(edited),
            "what": _starless(look.what),
            "stage": stage,
        }
    return found


def as_table(ds: Items, groups: Groups):
    "A DataFrame with one row for each image of each group (docs/json.md)."
    from ..dataset.frames import frame

    known, rows = _looks(ds, groups), []
    for number, g in enumerate(groups, 1):
        looks = [(look.grade, _starless(look.what) or None, None) for look in known.looks(g)]
        for place, (k, about) in enumerate(zip(g, [(None, None, g.reason), *looks], strict=True)):
            alike = round(g.scores[place], 6) if place < len(g.scores) else None
            keep = place == 0 or k in g.protected
            rows.append((number, ds.relpath(k), ds.labels[k], ds.splits[k], keep, alike, *about))
    return frame(rows, ("group", "name", "label", "split", "keep", "similarity", "grade", "what", "reason"))


def print_groups(ds: Items, groups: Groups) -> None:
    "The first groups, as a table on stdout."
    if not groups:
        typer.echo("no duplicates found")
        return
    alike = "probability" if groups.found else "similarity"
    known, shown = _looks(ds, groups), groups[:SHOWN]
    rows = []
    for number, group in enumerate(shown, 1):
        stays = f"stays: {group.reason}" if group.reason else "stays"
        told = [stays, *(_starless(look.in_words) for look in known.looks(group[:LISTED]))]
        for place, (k, words) in enumerate(zip(group, told, strict=False)):
            first = ("", "") if place else (str(number), f"{group.similarity:.4f}")
            rows.append((*first, printable(ds.relpath(k)), printable(ds.labels[k] or ""), words))
        if len(group) > LISTED:
            rows.append(("", "", f"and {len(group) - LISTED} more", "", ""))
    columns = ("group", alike, "image", "label", "beside the first")
    if all(len(labels_of(ds, group)) < 2 for group in shown):  # then they say nothing new
        columns, rows = columns[:3] + columns[4:], [row[:3] + row[4:] for row in rows]
    table(f"{counted(len(groups), 'group')}, the image to keep first", rows, columns, right=("group", alike))
    if len(groups) > SHOWN:
        typer.echo(f"… and {len(groups) - SHOWN} more groups; --json FILE writes them all")


def print_leaks(found: Leaks) -> None:
    "How many have leaked, and the first of them beside their copies, as a table on stdout."
    typer.echo("\n".join(map(printable, str(found).split("\n"))))
    if not len(found.pairs):
        return
    ds, known, two = found.items, _looks(found.items, found.duplicates), len(found.splits) == 2
    rows = []
    for i, j, score in found.pairs.top(SHOWN):
        later, earlier = pair = found.by_split(i, j)
        names = [printable(ds.relpath(k)) + ("" if two else f" ({ds.splits[k]})") for k in pair]
        labels = [printable(ds.labels[k] or "no label") for k in pair]
        other = "" if labels[0] == labels[1] else " / ".join(labels)
        rows.append((*names, f"{score:.4f}", _starless(known.look(earlier, later).in_words), other))
    alike = "probability" if found.duplicates.found else "similarity"
    heads = (
        [f"image of {found.splits[1]}", f"its copy in {found.splits[0]}"] if two else ["image", "its copy"]
    )
    columns = (*heads, alike, "beside the copy", "labels, where they differ")
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    table(
        f"{counted(len(found.pairs), 'pair')} across splits, most alike first", rows, columns, right=(alike,)
    )
    if len(found.pairs) > SHOWN:
        typer.echo(f"… and {len(found.pairs) - SHOWN} more pairs; --csv FILE writes them all")


def _looks(ds: Items, groups: Groups) -> Looks:
    "What is known of the images of each group beside the first."
    from ..dataset.identity import Identities
    from ..review.looks import Looks

    return Looks(ds, groups, Identities(ds, ds.root))


def _starless(text: str) -> str:
    "What is said of an image in the grid, where there is no star to speak of."
    from ..review.looks import STARRED

    return text.replace(STARRED, "the other one is")


def print_unreadable(ds: Items) -> None:
    "The files that were left out, and why, on stderr."
    for bad in ds.unreadable:
        typer.echo(f"unreadable: {printable(relative(bad.path, ds.root))}: {printable(bad.error)}", err=True)


def print_summary(ds: Items, groups: Groups) -> None:
    "What was done and how long it took, on stderr."
    n, seconds = groups.looked_at or len(ds), groups.seconds
    here = groups.looked_at is None  # else others looked, perhaps on another day
    copies = sum(len(g) - 1 for g in groups)
    typer.echo(
        f"{counted(n + len(ds.unreadable), 'file')}, {len(ds.unreadable)} unreadable, {counted(len(groups), 'group')}, {counted(copies, 'image')} could go; "
        f"looked {seconds['look']:.1f} s ({_speed(groups, n)})"
        + "".join(f", {did} {seconds[name]:.1f} s" for name, did in DID.items() if name in seconds)
        + (f"; {perf_counter() - STARTED:.1f} s in all" if here else ""),
        err=True,
    )
    calibration = groups.found and groups.found.calibration
    if calibration:
        typer.echo(
            f"expected precision of the pairs {calibration.precision}, recall of edited copies {calibration.recall}; "
            "both from copies of your own images, edited and planted among them in a temporary folder",
            err=True,
        )
    elif groups.found:
        typer.echo(f"too few images to learn a cut; pairs of at least {groups.found.cut} are shown", err=True)


def _speed(groups: Groups, n: int) -> str:
    "How fast images were looked at; those in the cache, and all but one of equal files, are not."
    new = n if groups.computed is None else groups.computed
    if not new:
        return "all were known"
    known = f"; {n - new} known, or equal files" if new < n else ""
    return f"{new / max(groups.seconds['look'], 1e-9):.0f} images/s{known}"


def labels_of(ds: Items, group: Group) -> list[str]:
    "The labels in a group, each once, sorted."
    return sorted({ds.labels[k] for k in group} - {None})
