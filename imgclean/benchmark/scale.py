"""A run on many machines: measured with a few workers on this one, or what it would take, by simulation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import print_json
from .peers import check_installed


def scale(
    folder: Annotated[
        Path | None, typer.Argument(help="Images to measure with; none with --simulate.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Workers that hold the model.")] = 2,
    min_similarity: Annotated[float, typer.Option(help="Pairs with at least this cosine.")] = 0.85,
    limit: Annotated[int | None, typer.Option(help="Take only so many images.")] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Play a run through in simulated time.")
    ] = False,
    plan: Annotated[list[str] | None, typer.Option(help="1M, 100M or 10B; default: all.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=NUMBER of the simulation, such as nodes=32.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what goes wrong in the simulation.")] = 0,
) -> None:
    """Seconds and bytes of each stage of a run on Ray, against one process; with --simulate, of a run on many machines.

    A simulation tells hours, bytes and memory, what holds it up and what breaks first.
    """
    if simulate == (folder is not None):
        raise typer.BadParameter("give FOLDER, or --simulate")
    if folder is not None:
        from .scaled import measured

        print_json(measured(folder, workers, min_similarity, limit))
        return
    check_installed("simpy", option="--simulate")
    from .simulate import simulated

    try:
        print_json(simulated(plan or [], change or [], seed))
    except ValueError as err:
        raise typer.BadParameter(str(err)) from None
