"""What all commands share: exit codes, errors in one line, options, and texts that are safe on a terminal."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

STARTED = perf_counter()  # before all imports that take time

import typer  # noqa: E402

if TYPE_CHECKING:
    from ..dataset.items import Items

OK, FOUND, WRONG, STOPPED = 0, 1, 2, 130  # exit codes; 1 also: not all was done
PARTLY = FOUND
STREAMS = ("--json", "--csv")  # that can go to stdout, or to a pipe

Source = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE", help="Folder of images (subfolders, too), csv, parquet, tar or zip file."
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(metavar="GLOB", help="Only files that fit, such as 'train/**'; may be repeated."),
]
Exclude = Annotated[
    list[str] | None, typer.Option(metavar="GLOB", help="Leave out files that fit; may be repeated.")
]
Arch = Annotated[
    str | None, typer.Option(help="timm or torchvision model that looks.  [default: tf_efficientnet_lite0]")
]
UseCache = Annotated[bool, typer.Option("--cache/--no-cache", help="Never look at the same image twice.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary on stderr.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the result here; - is stdout.")
]
CsvFile = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write a table here.")]
Page = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="FILE", help="Write an HTML page to review it in; it exports DECISIONS."
    ),
]
FailIfFound = Annotated[
    bool, typer.Option("--fail-if-found", help="End with exit code 1 if anything was found.")
]
MinPrecision = Annotated[
    float | None,
    typer.Option(help="Share of true pairs among those found, after a second look at each.  [default: 0.99]"),
]
MinSimilarity = Annotated[
    float | None,
    typer.Option(help="In its place, no second look: all pairs of at least this cosine similarity."),
]
KeepPolicy = Annotated[
    str | None,
    typer.Option(
        help="Image of a group to keep: best, largest, sharpest, oldest, newest, metadata, "
        "train, valid, label (docs/keepers.md).  [default: imgclean.toml, else best]"
    ),
]
Protect = Annotated[
    list[str] | None,
    typer.Option(metavar="PATH", help="File or folder to keep in any case; may be repeated."),
]


@contextmanager
def clear_errors() -> Iterator[None]:
    "Turn what the library raises for bad input into one line on stderr and exit code 2."
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(
            "imgclean: stopped; what was looked at is kept, and the same command goes on from there", err=True
        )
        raise typer.Exit(STOPPED) from None
    except BrokenPipeError:  # such as `| head`; typer ends without a word
        raise
    except (OSError, ValueError, ImportError) as err:
        text = (
            err.strerror + (f": {err.filename}" if err.filename else "")
            if isinstance(err, OSError) and err.errno and err.strerror
            else str(err)
        )
        typer.echo(f"imgclean: {printable(str(text))}", err=True)
        raise typer.Exit(WRONG) from err


class OnStderr(logging.Handler):
    "Warnings of the library as lines on stderr, safe on a terminal."

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(f"imgclean: {printable(record.getMessage())}", err=True)


def show_warnings() -> None:
    "Let what the library logs come out by way of `OnStderr`."
    log = logging.getLogger("imgclean")
    if not any(isinstance(handler, OnStderr) for handler in log.handlers):
        log.addHandler(OnStderr(logging.WARNING))
        log.propagate = False


def say_loading(quiet: bool = False) -> None:
    "On a terminal, what the first ten seconds go into."
    if not quiet and sys.stderr.isatty() and "torch" not in sys.modules:
        typer.echo("loading PyTorch and fastai …", err=True)


def printable(text: str) -> str:
    "`text` without what could move a terminal's cursor or colour it."
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def check_writable(outputs: Mapping[str, Path | None], *inputs: str | os.PathLike | None) -> None:
    "Complain before the long work, not after it: `outputs` by option, each a file of its own and none of `inputs`."
    taken: dict[str, str] = {}
    for option, file in outputs.items():
        if file is None:
            continue
        place = "-" if str(file) == "-" and option in STREAMS else os.path.realpath(file)
        if place != "-" and not _may_write(file, option):
            raise ValueError(
                f"cannot write {str(file)!r}; give {option} a file in a folder that exists and may be written"
            )
        if place in taken:
            raise ValueError(
                f"{taken[place]} and {option} are both {str(file)!r}; give each a file of its own"
            )
        if any(given and place == os.path.realpath(given) for given in inputs):
            raise ValueError(f"{option} would write over {str(file)!r}, which is read; give another file")
        taken[place] = option


def _may_write(file: Path, option: str) -> bool:
    if str(file) == "-" or file.is_dir():
        return False
    if (
        file.exists() and not file.is_file()
    ):  # /dev/null and the like; what replaces a file would replace these, too
        return option in STREAMS
    if option != "--save" and file.exists() and _is_image(file):
        return False
    return os.access(file.absolute().parent, os.W_OK)


def _is_image(file: Path) -> bool:
    from ..dataset.images import image_extensions

    return file.suffix.lower() in image_extensions()


def write_text(file: Path | None, text: str) -> None:
    "Into a file, whole or not at all, or for - to stdout; nothing for None."
    if file is not None:
        _write(file, text.encode("utf-8", "surrogateescape"))


def _write(file: Path, data: bytes) -> None:
    from ..dataset.stored import written_whole

    if str(file) == "-":
        typer.echo(data, nl=False)
    elif file.exists() and not file.is_file():
        file.write_bytes(data)
    else:
        with written_whole(os.path.realpath(file)) as f:
            f.write(data)


def write_tables(df, csv: Path | None, parquet: Path | None = None) -> None:
    "A DataFrame into the files that are asked for."
    if csv:
        write_text(csv, df.to_csv(index=False, lineterminator="\n"))
    if parquet:
        _write(parquet, df.to_parquet())


def holds_data(*files: Path | None) -> bool:
    "Whether stdout is one of the files that were asked for, and so no place for a table to look at."
    return "-" in map(str, files)


def write_page(file: Path, ds: Items, groups: Iterable, dataset: Path | None = None) -> None:
    "The HTML page of `groups`; `dataset` is what `ds` was read from as a whole."
    from ..review.report import write_report

    write_report(ds, groups, file, dataset=dataset)


def read(source: Path, include: Sequence[str] | None = None, exclude: Sequence[str] | None = None) -> Items:
    "The images of a folder, table or archive."
    from ..dataset.sources import read_source

    return read_source(source, include=include or (), exclude=exclude or ())


def relative(path: str | os.PathLike, root: Path) -> str:
    "`path` seen from `root`, with forward slashes."
    from ..dataset.items import relative_to

    return relative_to(Path(path), root)


def table(
    title: str, rows: Sequence[Sequence[str]], columns: Sequence[str], right: Sequence[str] = ()
) -> None:
    "A table on stdout; the cells are texts of ours or were made printable."
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=SIMPLE, title=title, title_justify="left")
    for name in columns:
        shown.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*map(Text, row))
    # A pipe has no width; without one names must not be broken into pieces.
    Console(width=None if sys.stdout.isatty() else 200).print(shown)
