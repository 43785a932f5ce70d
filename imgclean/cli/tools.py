"""`imgclean demo`, `cache` and `benchmark`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .common import clear_errors, relative, say_loading, table
from .results import labels_of, print_groups, print_summary

if TYPE_CHECKING:
    from ..dataset.items import Items
    from ..dataset.samples import Planted
    from ..find.groups import Group, Groups

NOTEBOOK = "01_find_duplicates.ipynb"


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("imgclean-demo"),
    lab: Annotated[
        bool, typer.Option("--lab", help="Then open JupyterLab on the tutorial notebook.")
    ] = False,
) -> None:
    "Make a sample dataset with planted duplicates in FOLDER, find them, write the clean csv. Works offline."
    with clear_errors():
        say_loading()
        from ..dataset.samples import sample_dataset
        from ..formatter import DatasetFormatter
        from ..review.session import Review

        sample = sample_dataset(folder / "imgclean-sample")
        typer.echo(f"made the sample dataset in {sample.path}", err=True)
        ds, groups = DatasetFormatter.from_similars(sample.path)
        print_groups(ds, groups)
        missed = _print_planted(ds, groups, sample.planted)
        # A ledger of its own: the tutorial's grid opens undecided.
        review = Review(ds, groups, sample.path, ledger=sample.path / ".imgclean" / "demo.jsonl")
        review.keep_best()
        typer.echo(f"\nkept the suggested image of each group: {review.apply()}")
        print_summary(ds, groups)
        if lab:
            _open_tutorial(folder)
        else:
            typer.echo("to review by hand: imgclean demo --lab", err=True)
    if missed:
        raise typer.Exit(1)


def cache(
    what: Annotated[
        Literal["info", "clear"], typer.Argument(help="info: where it is and how large; clear: remove it.")
    ],
) -> None:
    "Show or clear the cache of what was looked at before; clearing costs time only, no decision."
    with clear_errors():
        from ..dataset.wording import human_bytes
        from ..features.cache import Cache

        store = Cache()
        if what == "clear":
            store.clear()
        for name, value in store.info().items():
            typer.echo(f"{name}: {value}" + (f" ({human_bytes(value)})" if name == "bytes" else ""))
        if what == "info":
            typer.echo("`imgclean cache clear` removes it, which costs time only", err=True)


def benchmark(context: typer.Context) -> None:
    "Measure imgclean and print JSON; `imgclean benchmark --help` lists what can be measured."
    command = [sys.executable, "-m", "imgclean.benchmark", *context.args]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def _print_planted(ds: Items, groups: Groups, planted: tuple[Planted, ...]) -> int:  # how many were missed
    at = {ds.relpath(k): k for k in range(len(ds))}
    unreadable = {relative(u.path, ds.root) for u in ds.unreadable}
    missed, expected, rows = 0, set(), []
    for plant in planted:
        ks = {at[f] for f in plant.files if f in at}
        group = next((g for g in groups if ks and ks <= set(g)), None)
        found = "listed as unreadable" if set(plant.files) <= unreadable else _found(ds, group)
        missed += found == "NO"
        expected |= {group} - {None}
        rows.append((plant.what, "\n".join(plant.files), found))
    table("planted and found", rows, ("planted", "files", "found"))
    for group in groups:
        if group not in expected:
            typer.echo(f"not planted: {', '.join(ds.relpath(k) for k in group)} ({group.similarity:.3f})")
    return missed


def _found(ds: Items, group: Group | None) -> str:
    if group is None:
        return "NO"
    labels = labels_of(ds, group)
    clash = f", labels differ: {' and '.join(labels)}" if len(labels) > 1 else ""
    return f"yes, probability {group.similarity:.3f}{clash}"


def _open_tutorial(folder: Path) -> None:
    from .reviewing import open_notebook

    target = folder / NOTEBOOK
    if not target.exists():
        shutil.copyfile(_tutorial(), target)
    open_notebook(target)


def _tutorial() -> Path:
    "The notebook in a clone, in a folder that was installed into, or wherever else the installer says it put it."
    beside = Path(__file__).parents[2]
    for folder in (beside / "nbs", beside / "share/imgclean/nbs"):
        if (folder / NOTEBOOK).exists():
            return folder / NOTEBOOK
    from importlib.metadata import files

    return next(Path(file.locate()) for file in files("imgclean") or () if file.name == NOTEBOOK)
