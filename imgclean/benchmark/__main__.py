"""Measures imgclean and prints JSON: `python -m imgclean.benchmark copies FOLDER TRUTH.csv`, `… features FOLDER`."""

from __future__ import annotations

import typer

from . import copies, features

app = typer.Typer(help=__doc__, add_completion=False)


@app.callback()
def _root() -> None:
    "A command for each thing that is measured."


app.command()(copies.copies)
app.command()(features.features)

if __name__ == "__main__":
    app()
