"""The shell's door: `imgclean find SOURCE`, `review`, `apply` and the others. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from .. import __version__
from .common import OK, printable, show_warnings
from .finding import find, leaks
from .labelling import labels
from .reviewing import apply, report, restore, review
from .searching import index, similar
from .tools import benchmark, cache, demo

__all__ = ["app", "main", "printable"]

# Without rich's markup the help is there in half the time.
app = typer.Typer(
    help="Find, review and clean duplicate images and wrong labels.",
    epilog="Exit codes: 0 done; 1 found (--fail-if-found) or done in part; 2 wrong use or input; 130 stopped.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (find, review, apply, restore, leaks, labels, report, index, similar, demo, cache):
    app.command()(command)
# Whatever follows is the benchmark's own: its help, too.
app.command(
    add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)(benchmark)


def main() -> None:
    "Run the command line; for the exit codes see `common`."
    app()


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    show_warnings()
    # A name that the terminal's encoding lacks is shown by its number; stderr does so by itself.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if version:
        typer.echo(f"imgclean {__version__}")
        raise typer.Exit(OK)
