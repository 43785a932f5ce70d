"""The shell's door: `imgclean find FOLDER`, `index`, `similar`, `demo` and `cache`. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import __version__

if TYPE_CHECKING:
    from .dataset.items import Items
    from .dataset.samples import Planted
    from .find.groups import Group, Groups
    from .query import Index

app = typer.Typer(help="Find, review and clean duplicate images.", no_args_is_help=True, add_completion=False)
NOTEBOOK = "01_find_duplicates.ipynb"
SHOWN = 50  # groups in the table; the JSON file holds all


def main() -> None:
    "Run the command line; exit code 0 when done, 2 for wrong use or a folder that cannot be read."
    app()


@contextmanager
def _clear_errors() -> Iterator[None]:
    "Turn what the library raises for bad input into one line on stderr and exit code 2."
    try:
        yield
    except (OSError, ValueError) as err:
        text = (
            err.strerror and f"{err.strerror}: {err.filename}"
            if isinstance(err, OSError) and err.errno
            else str(err)
        )
        typer.echo(f"imgclean: {printable(str(text))}", err=True)
        raise typer.Exit(2) from err


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        typer.echo(f"imgclean {__version__}")
        raise typer.Exit


@app.command()
def find(
    folder: Annotated[Path, typer.Argument(help="Folder of images; subfolders are searched, too.")],
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write groups and pairs here.")
    ] = None,
    min_precision: Annotated[
        float | None,
        typer.Option(
            help="Share of true pairs among those found, after a second look at each.  [default: 0.99]"
        ),
    ] = None,
    min_similarity: Annotated[
        float | None,
        typer.Option(help="In its place, no second look: all pairs of at least this cosine similarity."),
    ] = None,
    n: Annotated[
        int | None, typer.Option("-n", help="In its place, no second look: the N most similar pairs.")
    ] = None,
    keep: Annotated[
        str,
        typer.Option(
            help="Image of a group to keep: best, largest, sharpest, oldest, newest, metadata, "
            "train, valid, label (docs/keepers.md)."
        ),
    ] = "best",
    protect: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="File or folder to keep in any case; may be repeated."),
    ] = None,
    arch: Annotated[
        str, typer.Option(help="timm or torchvision model that looks.")
    ] = "tf_efficientnet_lite0",
    use_cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Never look at the same image twice.")
    ] = True,
) -> None:
    "Find groups of duplicate images below FOLDER. Changes nothing there."
    with _clear_errors():
        _check_writable(json_file)
        from .formatter import DatasetFormatter

        ds, groups = DatasetFormatter.from_similars(
            folder,
            arch=arch,
            n=n,
            min_similarity=min_similarity,
            min_precision=min_precision,
            keep=keep,
            protect=protect or (),
            cache=use_cache,
        )
        if json_file:
            json_file.write_text(as_json(ds, groups, folder), encoding="utf-8")
        _print_groups(ds, groups)
        _print_unreadable(ds)
        _print_summary(ds, groups)


@app.command()
def index(
    folder: Annotated[Path, typer.Argument(help="Folder of images; subfolders are searched, too.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="INDEX", help="File to write, or to bring up to date.")
    ],
    arch: Annotated[
        str, typer.Option(help="timm or torchvision model that looks.")
    ] = "tf_efficientnet_lite0",
    lsh: Annotated[
        bool, typer.Option("--lsh", help="Search by hashes, 5 tables of 10 bits, in place of exactly.")
    ] = False,
    use_cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Never look at the same image twice.")
    ] = True,
) -> None:
    "Make INDEX of the images below FOLDER, for `similar`; one that is there is brought up to date."
    with _clear_errors():
        _check_writable(out, "-o")
        from .find.lsh import LSHIndex
        from .query import build_index

        made = build_index(folder, out, arch=arch, lsh=LSHIndex() if lsh else None, cache=use_cache)
        typer.echo(f"{len(made)} images in {printable(str(out))}", err=True)


@app.command()
def similar(
    image: Annotated[str, typer.Argument(metavar="IMAGE_OR_URL", help="File, or http or https URL.")],
    index: Annotated[Path, typer.Option("--index", metavar="INDEX", help="What `imgclean index` wrote.")],
    n: Annotated[int, typer.Option("-n", help="How many images.")] = 5,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the image and those like it into this file.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the result here; - is stdout.")
    ] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="URLs of this machine and its own network as well.")
    ] = False,
) -> None:
    "List the N images of INDEX that are most like IMAGE_OR_URL, most similar first."
    to_stdout = str(json_file) == "-"
    with _clear_errors():
        _check_writable(save, "--save")
        _check_writable(None if to_stdout else json_file)
        from .query import Index, find_similar

        searched = Index.load(index)
        found = find_similar(image, searched, n, allow_private=allow_private)
        lines = [(_relative(path, searched.root), similarity) for path, similarity in found]
        text = _similar_json(image, searched, lines)
        if json_file and not to_stdout:
            json_file.write_text(text, encoding="utf-8")
        if save:
            found.plot().savefig(save)
        if to_stdout:
            typer.echo(text, nl=False)
        else:
            for name, similarity in lines:
                typer.echo(f"{similarity:.4f}  {printable(name)}")


def _similar_json(image: str, searched: Index, lines: list[tuple[str, float]]) -> str:
    "The result of `similar` in JSON, version 1 (docs/indexes.md)."
    found = {
        "version": 1,
        "query": image,
        "root": str(searched.root),
        "settings": searched.settings,
        "images": len(searched),
        "similar": [{"path": name, "similarity": round(similarity, 6)} for name, similarity in lines],
    }
    return json.dumps(found, indent=1) + "\n"


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("imgclean-demo"),
    lab: Annotated[
        bool, typer.Option("--lab", help="Then open JupyterLab on the tutorial notebook.")
    ] = False,
) -> None:
    "Make a sample dataset with planted duplicates in FOLDER, find them, write the clean csv. Works offline."
    with _clear_errors():
        from .dataset.samples import sample_dataset
        from .formatter import DatasetFormatter
        from .review.session import Review

        sample = sample_dataset(folder / "imgclean-sample")
        typer.echo(f"made the sample dataset in {sample.path}", err=True)
        ds, groups = DatasetFormatter.from_similars(sample.path)
        _print_groups(ds, groups)
        missed = _print_planted(ds, groups, sample.planted)
        # A ledger of its own: the tutorial's grid opens undecided.
        review = Review(ds, groups, sample.path, ledger=sample.path / ".imgclean" / "demo.jsonl")
        review.keep_best()
        typer.echo(f"\nkept the suggested image of each group: {review.apply()}")
        _print_summary(ds, groups)
        if lab:
            _open_lab(folder)
        else:
            typer.echo("to review by hand: imgclean demo --lab", err=True)
    if missed:
        raise typer.Exit(1)


@app.command()
def cache(
    what: Annotated[
        Literal["info", "clear"], typer.Argument(help="info: where it is and how large; clear: remove it.")
    ],
) -> None:
    "Show or clear the cache of what was looked at before; clearing costs time only, no decision."
    with _clear_errors():
        from .features.cache import Cache

        store = Cache()
        if what == "clear":
            store.clear()
        for name, value in store.info().items():
            typer.echo(f"{name}: {value}")


def as_json(ds: Items, groups: Groups, folder: str | os.PathLike) -> str:
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
        "root": os.path.abspath(folder),
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
        "unreadable": [{"path": _relative(u.path, ds.root), "error": u.error} for u in ds.unreadable],
    }
    # ASCII: any file name survives, even one that is no valid UTF-8.
    return json.dumps(found, indent=1) + "\n"


def _relative(path: Path, root: Path) -> str:
    from .dataset.items import relative_to

    return relative_to(path, root)


def printable(text: str) -> str:
    "`text` without what could move a terminal's cursor or colour it."
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def _check_writable(file: Path | None, option: str = "--json") -> None:
    "Complain before the long work, not after it."
    if file and (file.is_dir() or not file.absolute().parent.is_dir()):
        raise ValueError(f"cannot write {str(file)!r}; give {option} a file in a folder that exists")


def _print_groups(ds: Items, groups: Groups) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not groups:
        typer.echo("no duplicates found")
        return
    table = Table(box=SIMPLE, title=f"{len(groups)} groups, the image to keep first", title_justify="left")
    for name, justify in (
        ("group", "right"),
        ("probability" if groups.found else "similarity", "right"),
        ("images", "left"),
        ("why keep the first", "left"),
    ):
        table.add_column(name, justify=justify, overflow="fold")
    for number, group in enumerate(groups[:SHOWN], 1):
        names = [printable(ds.relpath(k)) for k in group[:10]] + (
            [f"and {len(group) - 10} more"] if len(group) > 10 else []
        )
        table.add_row(str(number), f"{group.similarity:.4f}", Text("\n".join(names)), Text(group.reason))
    # A pipe has no width; without one names must not be broken into pieces.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    if len(groups) > SHOWN:
        typer.echo(f"… and {len(groups) - SHOWN} more groups; --json FILE writes them all")


def _print_unreadable(ds: Items) -> None:
    for bad in ds.unreadable:
        typer.echo(f"unreadable: {printable(_relative(bad.path, ds.root))}: {printable(bad.error)}", err=True)


DID = {"hash": "hashed", "plant": "planted copies", "compare": "compared", "check": "looked again", "calibrate": "calibrated"}  # fmt: skip


def _print_summary(ds: Items, groups: Groups) -> None:
    n, seconds = len(ds) + len(ds.unreadable), groups.seconds
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


def _print_planted(ds: Items, groups: Groups, planted: tuple[Planted, ...]) -> int:  # how many were missed
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    at = {ds.relpath(k): k for k in range(len(ds))}
    unreadable = {_relative(u.path, ds.root) for u in ds.unreadable}
    table = Table(box=SIMPLE, title="planted and found", title_justify="left")
    for name in ("planted", "files", "found"):
        table.add_column(name, overflow="fold")
    missed, expected = 0, set()
    for plant in planted:
        ks = {at[f] for f in plant.files if f in at}
        group = next((g for g in groups if ks and ks <= set(g)), None)
        found = "listed as unreadable" if set(plant.files) <= unreadable else _found(ds, group)
        missed += found == "NO"
        expected |= {group} - {None}
        table.add_row(plant.what, "\n".join(plant.files), found)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    for group in groups:
        if group not in expected:
            typer.echo(f"not planted: {', '.join(ds.relpath(k) for k in group)} ({group.similarity:.3f})")
    return missed


def _found(ds: Items, group: Group | None) -> str:
    if group is None:
        return "NO"
    labels = sorted({ds.labels[k] for k in group})
    clash = f", labels differ: {' and '.join(labels)}" if len(labels) > 1 else ""
    return f"yes, probability {group.similarity:.3f}{clash}"


def _open_lab(folder: Path) -> None:
    here = Path(__file__).parents[1] / "nbs" / NOTEBOOK
    installed = Path(sys.prefix) / "share" / "imgclean" / "nbs" / NOTEBOOK
    source = here if here.exists() else installed
    target = folder / NOTEBOOK
    if not target.exists():
        shutil.copyfile(source, target)
    if not sys.stdout.isatty():
        typer.echo(f"not on a terminal, so JupyterLab is not started; run: jupyter lab {target}", err=True)
        return
    subprocess.run([sys.executable, "-m", "jupyterlab", str(target)], check=False)
