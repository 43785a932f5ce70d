"""`imgclean review`, `apply`, `restore` and `report`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    PARTLY,
    Arch,
    Exclude,
    Include,
    JsonFile,
    KeepPolicy,
    MinPrecision,
    MinSimilarity,
    Protect,
    Quiet,
    Source,
    UseCache,
    check_writable,
    clear_errors,
    holds_data,
    printable,
    read,
    table,
    write_page,
    write_text,
)
from .finding import looked
from .results import print_summary, print_unreadable

if TYPE_CHECKING:
    from ..dataset.items import Items
    from ..find.groups import Groups
    from ..review.exchange import Exported
    from ..review.session import Review

SHOWN = 50  # files in the table of a plan


class To(str, Enum):
    "What happens to the files that are left out"

    csv = "csv"
    quarantine = "quarantine"
    trash = "trash"


def review(
    source: Source,
    notebook: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The notebook; one that is there is opened as it is.  [default: review-NAME.ipynb]",
        ),
    ] = None,
    voila: Annotated[bool, typer.Option("--voila", help="Open it in Voila, without its code.")] = False,
    open_it: Annotated[
        bool, typer.Option("--open/--no-open", help="Start the server, where this is a terminal.")
    ] = True,
) -> None:
    "Write a notebook that finds the duplicates of SOURCE and shows the grid, and open it in JupyterLab."
    with clear_errors():
        found = results_in(source)
        n = len(found[0]) if found else len(read(source))
        name = source.absolute().name.rsplit(".", 1)[0] or "images"
        target = notebook or Path(f"review-{name}.ipynb")
        if target.is_file():
            typer.echo(f"{printable(str(target))} is there already and stays as it is", err=True)
        else:
            check_writable({"--notebook": target}, source)
            _write_notebook(target, source, n, found=found is not None)
        open_notebook(target, voila=voila, start=open_it)


def open_notebook(notebook: Path, *, voila: bool = False, start: bool = True) -> None:
    "JupyterLab or Voila on `notebook`; off a terminal, or where it shall not start, the command that does it."
    import shlex

    command = ["voila"] if voila else ["jupyter", "lab"]
    if not (start and sys.stdout.isatty()):
        why = "not on a terminal, so nothing is started; run" if start else "run"
        typer.echo(f"{why}: {shlex.join([*command, printable(str(notebook))])}", err=True)
        return
    if voila and not shutil.which("voila"):
        raise ImportError("voila is not installed; run `pip install voila`, or leave --voila out")
    module = "voila" if voila else "jupyterlab"
    subprocess.run([sys.executable, "-m", module, str(notebook)], check=False)


def results_in(source: Path) -> tuple[Items, Groups] | None:
    "The images and groups in a folder of results of --engine ray; None for anything else."
    if not (source / "report.json").is_file():
        return None
    from ..find.pairs import check_parquet

    check_parquet()
    from ..scaleout.results import is_results, read_results

    return read_results(source) if is_results(source) else None


def _write_notebook(target: Path, source: Path, n: int, *, found: bool) -> None:
    from nbformat import v4

    path = repr(str(source.absolute()))
    lines = (
        f"from imgclean.scaleout.results import read_results\n\nds, idxs = read_results({path})\n"
        if found
        else f"\nds, idxs = DatasetFormatter.from_similars(read_source({path}))\n"
    )
    cells = [
        v4.new_markdown_cell(
            f"# Duplicates in `{printable(source.absolute().name)}`\n\n{n} images. Run all cells (Run, Run All Cells), decide in the grid with the mouse or by keys "
            "(`?` shows them), then press Apply. Every decision is saved at once; to go on later, run the cells again."
        ),
        v4.new_code_cell(
            f"from imgclean.all import *\n{lines}cleaner = ImageCleaner(ds, idxs, duplicates=True)\ncleaner"
        ),
        v4.new_code_cell(
            "# After Apply: cleaner.cleaned() is the clean dataset, cleaner.restore() brings moved files back."
        ),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = v4.new_notebook(cells=cells, metadata=kernel)
    for number, cell in enumerate(book.cells):  # the same bytes each time
        cell["id"] = f"review-{number}"
    write_text(target, json.dumps(book, indent=1) + "\n")


def apply(
    decisions: Annotated[
        Path, typer.Argument(metavar="DECISIONS", help="What the HTML page or export_decisions wrote.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-d", help="Say what would be done, and touch nothing.")
    ] = False,
    to: Annotated[
        To,
        typer.Option(
            help="csv: write cleaned.csv, touch no image; quarantine, trash: move the files as well."
        ),
    ] = To.csv,
    dataset: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Folder or table, where it has moved since.")
    ] = None,
    copy: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Also copy the clean dataset into this new folder, or of an archive into a new one.",
        ),
    ] = None,
    lose_groups: Annotated[
        bool, typer.Option("--lose-groups", help="Also where no copy of a picture would stay.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    "Carry out DECISIONS: write cleaned.csv, and with --to move the files that are left out."
    with clear_errors():
        check_writable({"--json": json_file}, decisions, dataset)
        from ..review.exchange import read_decisions, reviewed

        said = read_decisions(decisions)
        items = _dataset(said, dataset)
        # On trial first: what is refused leaves no trace in the folder, and where the copy fails, nothing was moved.
        with reviewed(said, items, dry_run=True) as (found, taken):
            typer.echo(f"images in {printable(str(items.root))}: {printable(str(taken))}", err=True)
            if taken.gone and not (taken.taken or taken.last or taken.differ or taken.done):
                raise ValueError(
                    "none of the images that the file decides about is there; give --dataset the place where they are now"
                )
            plan = found.plan(to.value)
            _refuse_losses(found, plan["lost"], lose_groups)
            if not dry_run:
                _check_place(items.root, to, copy)
                copied = _copied(found.cleaned(), copy) if copy else None
        result = plan if dry_run else _carried_out(said, items, to, copied, lose_groups)
        if not holds_data(json_file):
            _print_plan(plan) if dry_run else typer.echo(printable(result["done"]))
        if not dry_run and result.get("quarantined"):
            typer.echo(f"to bring them back: imgclean restore {printable(str(items.root))}", err=True)
        result = {"version": 1, "dry_run": dry_run, **result}
        write_text(json_file, json.dumps(result, indent=1, default=str) + "\n")
        for name, why in result["refused"].items():
            typer.echo(f"left as it is: {printable(name)}: {printable(why)}", err=True)
    if result["refused"] or taken.gone or taken.last or taken.differ:
        raise typer.Exit(PARTLY)


def _check_place(root: Path, to: To, copy: Path | None) -> None:
    "Complain before the copy, not after it."
    if to is To.trash:
        from ..dataset.quarantine import system_trash

        system_trash()
    if not os.access(root, os.W_OK) and (to is not To.csv or not copy):
        raise ValueError(
            f"{str(root)!r} cannot be written, where decisions and cleaned.csv go; give --copy PATH alone, for a clean copy elsewhere"
        )


def _carried_out(said: Exported, items: Items, to: To, copied: Path | None, lose_groups: bool) -> dict:
    from ..review.exchange import reviewed

    if copied and not os.access(items.root, os.W_OK):
        done = f"the clean copy is {copied}; {items.root} cannot be written, and has no cleaned.csv"
        return {"done": done, "csv": None, "refused": {}, "copy": copied}
    with reviewed(said, items) as (found, _):
        done = found.apply(lose_groups, action=to.value)
    return {"done": str(done), **asdict(done), "copy": copied}


def _copied(cleaned: Items, path: Path) -> Path:
    from ..dataset.archives import Archives, is_archive

    if not is_archive(path):
        return cleaned.to_folder(path)
    if not isinstance(cleaned.origin, Archives):
        raise ValueError(
            f"--copy {str(path)!r} is an archive, but the images come from none, or from a part of one; give a new folder"
        )
    return cleaned.to_archive(path)


def _dataset(said: Exported, moved: Path | None) -> Items:
    "The dataset that decisions are about."
    from ..review.exchange import items_listed, without_unreadable

    if said.rows is not None:
        return items_listed(said, moved or said.root)
    return without_unreadable(said, read(moved or said.dataset))


def _refuse_losses(found: Review, lost: list[int], agreed: bool) -> None:
    if lost and not agreed:
        first = found.items.relpath(found.groups[lost[0]][0])
        raise ValueError(
            f"{len(lost)} pictures would lose every copy, the first is {first}; keep one of each, or give --lose-groups"
        )


def _print_plan(plan: dict) -> None:
    from ..dataset.wording import counted, human_bytes

    files = plan["files"]
    if files:
        rows = [
            (printable(f["name"]), human_bytes(f["bytes"]), f["action"], printable(f["reason"]))
            for f in files[:SHOWN]
        ]
        table("what would be done", rows, ("file", "size", "action", "why"), right=("size",))
    if len(files) > SHOWN:
        typer.echo(f"… and {len(files) - SHOWN} more files; --json FILE writes them all")
    typer.echo(
        f"dry run: {printable(plan['csv'])} would list {plan['images'] - plan['delete']} of {plan['images']} images, "
        f"{plan['relabel']} of them relabelled; {counted(plan['move'], 'file')} would move"
        + (f"; {counted(plan['undecided'], 'group')} not decided yet" if plan["undecided"] else "")
    )


def restore(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Of the dataset, or the manifest of one quarantine.")
    ],
) -> None:
    "Put the files that `apply --to quarantine` moved back; cleaned.csv stays as it is."
    with clear_errors():
        from ..dataset.quarantine import MANIFEST, manifests, restore_all
        from ..dataset.quarantine import restore as restore_one

        if not folder.exists():
            raise FileNotFoundError(f"{str(folder)!r} does not exist; give the folder of the dataset")
        # A dataset may have a manifest.json of its own.
        one = folder.is_file() or ((folder / MANIFEST).is_file() and not manifests(folder))
        done = restore_one(folder) if one else restore_all(folder)
        typer.echo("\n".join(map(printable, str(done).split("\n"))))
    if done.failed:
        raise typer.Exit(PARTLY)


def report(
    source: Source,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The page to write, such as report.html.")
    ],
    min_precision: MinPrecision = None,
    min_similarity: MinSimilarity = None,
    keep: KeepPolicy = None,
    protect: Protect = None,
    include: Include = None,
    exclude: Exclude = None,
    arch: Arch = None,
    use_cache: UseCache = True,
    quiet: Quiet = False,
) -> None:
    "Write the duplicates of SOURCE into one HTML page to review without a notebook; it exports DECISIONS."
    with clear_errors():
        check_writable({"-o": out}, source)
        found = results_in(source)
        if found:
            _refuse_more(source, min_precision, min_similarity, keep, protect, include, exclude, arch)
        ds, groups = found or looked(
            read(source, include, exclude), arch=arch, min_similarity=min_similarity,
            min_precision=min_precision, keep=keep, protect=protect, cache=use_cache, progress=not quiet,
        )  # fmt: skip
        # What was left out by a glob must stay out, so such a dataset is listed.
        write_page(out, ds, groups, None if found or include or exclude else source)
        print_unreadable(ds)
        typer.echo(printable(str(out)))
        if not quiet:
            print_summary(ds, groups)
            typer.echo(
                "open the page in a browser, decide, press Export; then: imgclean apply decisions.json",
                err=True,
            )


def _refuse_more(source: Path, *given) -> None:
    if any(value is not None and value != [] for value in given):
        raise ValueError(
            f"{str(source)!r} holds what --engine ray found; give it alone, and options of the search to `imgclean find`"
        )
