"""What `find` found, as JSON (docs/json.md), as rows of a table, and on the terminal."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import typer

from .common import printable, relative, table

if TYPE_CHECKING:
    from ..dataset.items import Items
    from ..find.groups import Group, Groups

SHOWN = 50  # groups in the table on the terminal; files hold all
DID = {"hash": "hashed", "plant": "planted copies", "compare": "compared", "check": "looked again", "calibrate": "calibrated"}  # fmt: skip


def as_json(ds: Items, groups: Groups) -> str:
    "The result of `find` in JSON, version 1 (docs/json.md): the same bytes for the same images and settings."
    rel = ds.relpath
    pairs = [(*sorted((rel(i), rel(j))), round(score, 6)) for i, j, score in groups.pairs]
    looks = {}
    if groups.found:  # a second look
        for (i, j, _), check, stage in zip(
            groups.pairs, groups.found.checks, groups.found.stages, strict=True
        ):
            looks[tuple(sorted((rel(i), rel(j))))] = {
                "grade": check.grade,
                "edited": rel(j),
                "what": check.what,
                "stage": stage,
            }
    found = {
        "version": 1,
        "root": os.path.abspath(ds.root),
        "settings": groups.settings,
        "images": len(ds),
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


def as_table(ds: Items, groups: Groups):
    "A DataFrame with one row for each image of each group (docs/json.md)."
    from ..dataset.frames import frame

    looks = getattr(groups.found, "looks", {})
    rows = []
    for number, g in enumerate(groups, 1):
        for place, k in enumerate(g):
            check = looks.get((g[0], k)) or looks.get((k, g[0]))
            alike = round(g.scores[place], 6) if place < len(g.scores) else None
            grade, reason = (check[0].grade if check else None, None) if place else (None, g.reason)
            keep = place == 0 or k in g.protected
            rows.append((number, ds.relpath(k), ds.labels[k], ds.splits[k], keep, alike, grade, reason))
    return frame(rows, ("group", "name", "label", "split", "keep", "similarity", "grade", "reason"))


def print_groups(ds: Items, groups: Groups) -> None:
    "The first groups, as a table on stdout."
    if not groups:
        typer.echo("no duplicates found")
        return
    alike = "probability" if groups.found else "similarity"
    rows = []
    for number, group in enumerate(groups[:SHOWN], 1):
        names = [printable(ds.relpath(k)) for k in group[:10]] + (
            [f"and {len(group) - 10} more"] if len(group) > 10 else []
        )
        rows.append((str(number), f"{group.similarity:.4f}", "\n".join(names), group.reason))
    title = f"{len(groups)} groups, the image to keep first"
    table(title, rows, ("group", alike, "images", "why keep the first"), right=("group", alike))
    if len(groups) > SHOWN:
        typer.echo(f"… and {len(groups) - SHOWN} more groups; --json FILE writes them all")


def print_unreadable(ds: Items) -> None:
    "The files that were left out, and why, on stderr."
    for bad in ds.unreadable:
        typer.echo(f"unreadable: {printable(relative(bad.path, ds.root))}: {printable(bad.error)}", err=True)


def print_summary(ds: Items, groups: Groups) -> None:
    "What was done and how long it took, on stderr."
    n, seconds = (groups.looked_at or len(ds)) + len(ds.unreadable), groups.seconds
    copies = sum(len(g) - 1 for g in groups)
    typer.echo(
        f"{n} files, {len(ds.unreadable)} unreadable, {len(groups)} groups, {copies} images more than needed; "
        f"looked {seconds['look']:.1f} s ({n / max(seconds['look'], 1e-9):.0f} images/s)"
        + "".join(f", {did} {seconds[name]:.1f} s" for name, did in DID.items() if name in seconds),
        err=True,
    )
    calibration = groups.found and groups.found.calibration
    if calibration:
        typer.echo(
            f"expected precision of the pairs {calibration.precision}, recall of edited copies {calibration.recall}",
            err=True,
        )
    elif groups.found:
        typer.echo(f"too few images to learn a cut; pairs of at least {groups.found.cut} are shown", err=True)


def labels_of(ds: Items, group: Group) -> list[str]:
    "The labels in a group, each once, sorted."
    return sorted({ds.labels[k] for k in group} - {None})
