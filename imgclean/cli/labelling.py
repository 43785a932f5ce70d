"""`imgclean labels`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    FOUND,
    Arch,
    CsvFile,
    Exclude,
    FailIfFound,
    Include,
    JsonFile,
    Page,
    Quiet,
    Source,
    UseCache,
    check_writable,
    clear_errors,
    holds_data,
    printable,
    read,
    say_loading,
    table,
    write_page,
    write_tables,
    write_text,
)
from .results import print_unreadable

if TYPE_CHECKING:
    from ..dataset.items import Items
    from ..find.groups import Suspect

SHOWN = 50  # rows of the table on the terminal


def labels(
    source: Source,
    probs: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Probabilities of your own: a column name, and one for each class."),
    ] = None,
    learner: Annotated[
        Path | None,
        typer.Option(
            metavar="PKL",
            help="A Learner that fastai exported. Loading it runs what it holds: trust its source.",
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(help="Ranking: combined, self-confidence, margin, neighbours or loss (docs/labels.md)."),
    ] = "combined",
    n: Annotated[int, typer.Option("-n", help="How many images.")] = 50,
    json_file: JsonFile = None,
    csv: CsvFile = None,
    report: Page = None,
    include: Include = None,
    exclude: Exclude = None,
    arch: Arch = None,
    use_cache: UseCache = True,
    fail_if_found: FailIfFound = False,
    quiet: Quiet = False,
) -> None:
    """List the N images of SOURCE whose label is most doubtful, with the reason. Changes nothing.

    The table shows those of them for which another label is likelier; files and the page have all N.

    Without --probs or --learner, a linear model on what the network sees is fitted five times, each time on four
    fifths of the images, and asked about the others.
    """
    with clear_errors():
        check_writable({"--json": json_file, "--csv": csv, "--report": report}, source, probs, learner)
        if probs and learner:
            raise ValueError("--probs and --learner are both given; give one of them")
        items = read(source, include, exclude)
        ds, found = _suspects(
            items, probs, learner, by=by, n=n, arch=arch, cache=use_cache, progress=not quiet
        )
        doubtful = [k for k in found if k.predicted != ds.labels[k]]
        if json_file:
            write_text(json_file, _as_json(ds, found, by))
        if csv:
            write_tables(_as_table(ds, found), csv)
        if report:
            write_page(report, ds, found)
        if not holds_data(json_file, csv):
            _print(ds, doubtful)
            typer.echo(
                f"{len(doubtful)} of the {len(found)} most doubtful images would have another label"
                + ("; --report page.html shows them, to be mended" if doubtful and not report else ""),
                err=True,
            )
        print_unreadable(ds)
    if fail_if_found and doubtful:
        raise typer.Exit(FOUND)


def _suspects(
    items: Items,
    probs: Path | None,
    learner: Path | None,
    *,
    by: str,
    n: int,
    arch: str | None,
    cache: bool,
    progress: bool,
) -> tuple[Items, list[Suspect]]:
    say_loading(not progress)
    from ..formatter import DatasetFormatter

    if learner:
        from ..features.backbones import exported_learner

        return DatasetFormatter.from_toplosses(
            exported_learner(learner), n, by=by, look_at=items, progress=progress
        )
    if not probs:
        from ..label_errors import find_label_errors

        return find_label_errors(items, n, by, arch=arch, cache=cache, progress=progress)
    from ..find.labels import NEED_NEIGHBOURS

    values, classes = _read_probs(probs, items)
    vectors = None
    if by in NEED_NEIGHBOURS:
        from ..features.activations import embed
        from ..features.backbones import PACKAGED, default_learner

        seen = embed(default_learner(items, arch or PACKAGED), items, progress=progress, cache=cache)
        kept = {path: k for k, path in enumerate(items.paths)}
        values, items, vectors = values[[kept[p] for p in seen.items.paths]], seen.items, seen.vectors
    return DatasetFormatter.from_probs(values, None, items, by, classes=classes, vectors=vectors, n=n)


def _read_probs(file: Path, items: Items):
    "The probabilities in a csv, in the items' order, and the classes."
    import pandas as pd

    try:
        table = pd.read_csv(file, dtype={"name": str}, keep_default_na=False)
    except ValueError as err:
        raise ValueError(
            f"{str(file)!r} is no csv of probabilities ({err}); give name, and one column for each class"
        ) from err
    if "name" not in table.columns or len(table.columns) < 3:
        raise ValueError(
            f"{str(file)!r} has the columns {', '.join(map(str, table.columns))}; give name, and one for each class"
        )
    twice = table["name"][table["name"].duplicated()]
    if len(twice):
        raise ValueError(f"{str(file)!r} has several rows for {twice.iloc[0]}; give one for each image")
    rows = {name: k for k, name in enumerate(table["name"])}
    names = [items.relpath(k) for k in range(len(items))]
    missing = [name for name in names if name not in rows]
    if missing:
        raise ValueError(
            f"{str(file)!r} lacks {len(missing)} of {len(items)} images, the first is {missing[0]}; give a row for each"
        )
    columns = [c for c in table.columns if c != "name"]
    try:
        values = table[columns].to_numpy(dtype=float)
    except ValueError as err:
        raise ValueError(
            f"{str(file)!r} holds what is no probability ({err}); give numbers from 0 to 1"
        ) from err
    return values[[rows[name] for name in names]], [str(c) for c in columns]


def _as_table(ds: Items, found: list[Suspect]):
    from ..dataset.frames import frame

    rows = [
        (ds.relpath(k), ds.labels[k], ds.splits[k], k.predicted, round(k.score, 6), k.reason) for k in found
    ]
    return frame(rows, ("name", "label", "split", "predicted", "score", "reason"))


def _as_json(ds: Items, found: list[Suspect], by: str) -> str:
    "The result of `labels` in JSON, version 1 (docs/json.md)."
    data = {
        "version": 1,
        "root": os.path.abspath(ds.root),
        "ranking": by,
        "images": len(ds),
        "suspects": [
            {
                "path": ds.relpath(k),
                "label": ds.labels[k],
                "predicted": k.predicted,
                "score": round(k.score, 6),
                "reason": k.reason,
            }
            for k in found
        ],
    }
    return json.dumps(data, indent=1) + "\n"


def _print(ds: Items, found: list[Suspect]) -> None:
    if not found:
        typer.echo("no label in doubt")
        return
    rows = [
        tuple(map(printable, (ds.relpath(k), ds.labels[k] or "", k.predicted, k.reason)))
        for k in found[:SHOWN]
    ]
    table("labels in doubt, the most doubtful first", rows, ("image", "label", "predicted", "why"))
    if len(found) > SHOWN:
        typer.echo(f"… and {len(found) - SHOWN} more; --csv FILE writes them all")
