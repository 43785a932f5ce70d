"""Measures imgclean and prints JSON: `python -m imgclean.benchmark copies FOLDER TRUTH.csv`, `… accuracy FOLDER TRUTH.csv`, `… transformed FOLDER`, `… features FOLDER`, `… cifar FOLDER LIST.csv`, `… leaks FOLDER LIST.csv`, `… labels FOLDER PROBS.npz REVIEW.csv`, `… siamese FOLDER`, `… search`, `… indexes`, `… page`, `… startup`, `… scale FOLDER`, `… scale --simulate`."""

from __future__ import annotations

import typer

from . import (
    accuracy,
    cifar,
    copies,
    features,
    indexes,
    labels,
    leaks,
    page,
    scale,
    search,
    siamese,
    startup,
    transformed,
)

app = typer.Typer(help=__doc__, add_completion=False)


@app.callback()
def _root() -> None:
    "A command for each thing that is measured."


app.command()(accuracy.accuracy)
app.command()(cifar.cifar)
app.command()(copies.copies)
app.command()(features.features)
app.command()(labels.labels)
app.command()(leaks.leaks)
app.command()(page.page)
app.command()(scale.scale)
app.command()(search.search)
app.command()(siamese.siamese)
app.command()(startup.startup)
app.command()(transformed.transformed)
app.command()(indexes.indexes)

if __name__ == "__main__":
    app()
