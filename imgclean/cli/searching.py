"""`imgclean index` and `imgclean similar`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    Arch,
    Exclude,
    Include,
    JsonFile,
    Quiet,
    Source,
    UseCache,
    check_writable,
    clear_errors,
    holds_data,
    printable,
    read,
    relative,
    say_loading,
    write_text,
)

if TYPE_CHECKING:
    from ..query import Index


def index(
    source: Source,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="INDEX", help="File to write, or to bring up to date.")
    ],
    arch: Arch = None,
    lsh: Annotated[
        bool, typer.Option("--lsh", help="Search by hashes, 5 tables of 10 bits, in place of exactly.")
    ] = False,
    include: Include = None,
    exclude: Exclude = None,
    use_cache: UseCache = True,
    quiet: Quiet = False,
) -> None:
    "Make INDEX of the images in SOURCE, for `similar`; one that is there is brought up to date."
    with clear_errors():
        check_writable({"-o": out}, source)
        say_loading(quiet)
        from ..find.lsh import LSHIndex
        from ..query import build_index

        made = build_index(
            read(source, include, exclude), out, arch=arch, lsh=LSHIndex() if lsh else None, cache=use_cache,
            progress=not quiet,
        )  # fmt: skip
        if not quiet:
            typer.echo(f"{len(made)} images in {printable(str(out))}", err=True)


def similar(
    image: Annotated[str, typer.Argument(metavar="IMAGE_OR_URL", help="File, or http or https URL.")],
    index: Annotated[
        Path | None,
        typer.Option("--index", metavar="INDEX", help="What `imgclean index` wrote.  [required]"),
    ] = None,
    n: Annotated[int, typer.Option("-n", help="How many images.")] = 5,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the image and those like it into this file.")
    ] = None,
    json_file: JsonFile = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="URLs of this machine and its own network as well.")
    ] = False,
) -> None:
    "List the N images of INDEX that are most like IMAGE_OR_URL, most similar first."
    with clear_errors():
        if index is None:
            raise ValueError(
                "--index is missing; make one of your images by `imgclean index FOLDER -o FILE`, and give --index FILE"
            )
        check_writable({"--save": save, "--json": json_file}, image, index)
        say_loading()
        from ..query import Index, find_similar

        searched = Index.load(index)
        found = find_similar(image, searched, n, allow_private=allow_private)
        lines = [(relative(path, searched.root), similarity) for path, similarity in found]
        write_text(json_file, _similar_json(image, searched, lines))
        if save:
            found.plot().savefig(save)
        if not holds_data(json_file):
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
