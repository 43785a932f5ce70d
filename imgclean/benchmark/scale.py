"""A run on many machines: what it would take, by simulation."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import print_json
from .peers import check_installed


def scale(
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Play a run through in simulated time.")
    ] = False,
    plan: Annotated[list[str] | None, typer.Option(help="1M, 100M or 10B; default: all.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=NUMBER of the simulation, such as nodes=32.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what goes wrong in the simulation.")] = 0,
) -> None:
    "Hours, bytes and memory of a run on many machines, what holds it up and what breaks first."
    if not simulate:
        raise typer.BadParameter("give --simulate")
    check_installed("simpy", option="--simulate")
    from .simulate import simulated

    try:
        print_json(simulated(plan or [], change or [], seed))
    except ValueError as err:
        raise typer.BadParameter(str(err)) from None
