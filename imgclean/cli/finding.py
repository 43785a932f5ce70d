"""`imgclean find` and `imgclean leaks`."""

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
    KeepPolicy,
    MinPrecision,
    MinSimilarity,
    Page,
    Protect,
    Quiet,
    UseCache,
    check_writable,
    clear_errors,
    holds_data,
    read,
    say_loading,
    write_page,
    write_tables,
    write_text,
)
from .results import as_json, as_table, print_groups, print_leaks, print_summary, print_unreadable

if TYPE_CHECKING:
    from ..dataset.items import Items
    from ..find.groups import Groups
    from ..leaks import Leaks


ENGINE = "--engine ray"


def find(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Folder of images (subfolders, too), csv, parquet, tar or zip file; "
            "with --engine ray an address such as s3://bucket/folder as well.",
        ),
    ],
    json_file: JsonFile = None,
    csv: CsvFile = None,
    parquet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the same table here; needs pyarrow.")
    ] = None,
    min_precision: MinPrecision = None,
    min_similarity: MinSimilarity = None,
    n: Annotated[
        int | None, typer.Option("-n", help="In its place, no second look: the N most similar pairs.")
    ] = None,
    keep: KeepPolicy = None,
    protect: Protect = None,
    include: Include = None,
    exclude: Exclude = None,
    arch: Arch = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="ray: on a Ray cluster, or on this machine's cores; needs imgclean[ray] and --out."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Where --engine ray keeps all results."),
    ] = None,
    exact: Annotated[bool, typer.Option(help="With --engine ray: compare every two images.")] = False,
    num_gpus: Annotated[float, typer.Option(help="With --engine ray: GPUs of each worker.")] = 0,
    workers: Annotated[
        int | None,
        typer.Option(help="With --engine ray: workers that hold the model.  [default: all there is]"),
    ] = None,
    use_cache: UseCache = True,
    fail_if_found: FailIfFound = False,
    quiet: Quiet = False,
) -> None:
    "Find groups of duplicate images in SOURCE. Changes nothing there."
    with clear_errors():
        _check_engine(engine, out, n, dict(exact=exact, num_gpus=num_gpus, workers=workers))
        check_writable({"--json": json_file, "--csv": csv, "--parquet": parquet}, source)
        if parquet:
            from ..find.pairs import check_parquet

            check_parquet()
        if engine:
            ds, groups = _on_ray(
                source, out, arch=arch, min_precision=min_precision, min_similarity=min_similarity,
                keep=keep or "best", protect=protect or (), include=include or (), exclude=exclude or (),
                exact=exact, num_gpus=num_gpus, concurrency=workers, progress=not quiet,
            )  # fmt: skip
        else:
            ds, groups = looked(
                read(Path(source), include, exclude), arch=arch, n=n, min_similarity=min_similarity,
                min_precision=min_precision, keep=keep, protect=protect, cache=use_cache, progress=not quiet,
            )  # fmt: skip
        if json_file:
            write_text(json_file, as_json(ds, groups))
        if csv or parquet:
            write_tables(as_table(ds, groups), csv, parquet)
        if not holds_data(json_file, csv):
            print_groups(ds, groups)
        print_unreadable(ds)
        if not quiet:
            print_summary(ds, groups)
    if fail_if_found and groups:
        raise typer.Exit(FOUND)


def _check_engine(engine: str | None, out: Path | None, n: int | None, given: dict) -> None:
    "Complain of options that do not go together."
    if engine not in (None, "ray"):
        raise ValueError(
            f"--engine is {engine!r}; the only one is ray, and without it this machine looks by itself"
        )
    if engine and out is None:
        raise ValueError(f"{ENGINE} needs --out, the folder for its results")
    if engine and n is not None:
        raise ValueError(f"-n does not go with {ENGINE}; give --min-similarity or --min-precision")
    alone = next((name for name, value in (given | {"out": out}).items() if value), None)
    if not engine and alone:
        raise ValueError(f"--{alone.replace('_', '-')} goes with {ENGINE}")


def _on_ray(source: str, out: Path, **settings) -> tuple[Items, Groups]:
    from ..scaleout import find_duplicates_ray

    return find_duplicates_ray(source, out, **settings)


def looked(items: Items, *, protect: list[str] | None, **settings) -> tuple[Items, Groups]:
    "`DatasetFormatter.from_similars` with what a command was given."
    say_loading(not settings["progress"])
    from ..formatter import DatasetFormatter

    return DatasetFormatter.from_similars(items, protect=protect or (), **settings)


def leaks(
    train: Annotated[
        Path, typer.Argument(metavar="TRAIN", help="Folder of the training set; or a dataset with splits.")
    ],
    valid: Annotated[
        Path | None, typer.Argument(metavar="VALID", help="Folder of the validation set.")
    ] = None,
    test: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder of a test set.")] = None,
    json_file: JsonFile = None,
    csv: CsvFile = None,
    report: Page = None,
    min_precision: MinPrecision = None,
    min_similarity: MinSimilarity = None,
    use_cache: UseCache = True,
    fail_if_found: FailIfFound = False,
    quiet: Quiet = False,
) -> None:
    "Tell which images of VALID are in TRAIN as well, how many, and of which labels. Changes nothing."
    with clear_errors():
        check_writable({"--json": json_file, "--csv": csv, "--report": report}, train, valid, test)
        say_loading(quiet)
        from ..leaks import find_leaks

        folders = {"train": train, "valid": valid, "test": test}
        source = read(train) if valid is None and test is None else {k: f for k, f in folders.items() if f}
        found = find_leaks(
            source, min_precision=min_precision, min_similarity=min_similarity, cache=use_cache,
            progress=not quiet,
        )  # fmt: skip
        if json_file:
            write_text(json_file, _leaks_json(found))
        if csv:
            write_tables(found.df(), csv)
        if report:
            write_page(report, found.items, found.groups)
        if not holds_data(json_file, csv):
            print_leaks(found)
        print_unreadable(found.items)
    if fail_if_found and len(found.pairs):
        raise typer.Exit(FOUND)


def _leaks_json(found: Leaks) -> str:
    "The result of `leaks` in JSON, version 1 (docs/json.md)."
    data = {
        "version": 1,
        "root": os.path.abspath(found.items.root),
        "settings": found.duplicates.settings,
        "splits": {split: found.items.splits.count(split) for split in found.splits},
        "report": json.loads(found.report().to_json(orient="records")),
        "pairs": json.loads(found.df().to_json(orient="records", double_precision=6)),
    }
    return json.dumps(data, indent=1) + "\n"
