"""How well a siamese network tells whether two images are of one class, and how soon it answers a query."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Annotated

import numpy as np
import torch
import typer
from scipy.stats import binomtest

from ..dataset.items import Items
from ..features.backbones import evaluating
from ..features.inputs import batch_of
from ..find.finder import SimilarityFinder
from ..find.siamese import eye_of, siamese_learner
from ..find.siamese_head import fit_head
from .common import print_json

COMPARED = 100  # files that a query is compared with
QUERIES = 5


def siamese(
    folder: Annotated[Path, typer.Argument(help="Images in CLASS/.")],
    n: Annotated[int, typer.Option(help="Images of each class, the first by name.")] = 500,
    size: Annotated[int, typer.Option(help="Pixels a side that the model sees.")] = 128,
    epochs: Annotated[int, typer.Option(help="Epochs of 20,000 pairs for the head.")] = 5,
    seed: int = 42,
) -> None:
    "Share of held-out pairs that are told right, with the frozen packaged network; queries one by one and in a batch."
    torch.manual_seed(seed)
    items = some_of_each(Items.from_folder(folder), n)
    start, cpu = perf_counter(), process_time()
    learn = siamese_learner(items, size=size, seed=seed)
    # In this process, so that its CPU seconds are all there are.
    share = fit_head(learn, epochs, seed=seed, num_workers=0, progress=False, cache=False)
    seconds, cpu = perf_counter() - start, process_time() - cpu
    held_out = len(learn.dls.valid_ds)
    span = binomtest(round(share * held_out), held_out).proportion_ci(method="wilson")
    print_json(
        {
            "images": len(items),
            "held_out_pairs": held_out,
            "right": round(share, 4),
            "right_95_percent": [round(float(span.low), 4), round(float(span.high), 4)],
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu, 1),
            "query": queries(learn, items),
        }
    )


def some_of_each(items: Items, n: int) -> Items:
    "The first `n` items of each label."
    seen: dict[str | None, int] = {}
    chosen = []
    for k, label in enumerate(items.labels):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= n:
            chosen.append(k)
    return items.subset(chosen)


def queries(learn, items: Items) -> dict[str, float]:
    "Median seconds of a query of `COMPARED` files: pair by pair, the first in a batch, and those after it."
    order = np.random.default_rng(0).permutation(len(items)).tolist()
    asked, compared = order[:QUERIES], order[QUERIES : QUERIES + COMPARED]
    files = items.subset(compared)
    times: dict[str, list[float]] = {"pair_by_pair": [], "first": [], "next": []}
    for k in asked:
        path, other = items.paths[k], items.paths[asked[asked.index(k) - 1]]
        start = perf_counter()
        one_by_one(learn, path, files)
        times["pair_by_pair"].append(perf_counter() - start)
        start = perf_counter()
        finder = SimilarityFinder(None, learn, files)
        finder.similar(path, 1, within_class=False)
        times["first"].append(perf_counter() - start)
        start = perf_counter()
        finder.similar(other, 1, within_class=False)
        times["next"].append(perf_counter() - start)
    seconds = {name: median(values) for name, values in times.items()}
    return {
        "compared": len(compared),
        **{f"{name}_seconds": round(s, 4) for name, s in seconds.items()},
        "first_against_pair_by_pair": round(seconds["pair_by_pair"] / seconds["first"], 1),
        "next_against_first": round(seconds["first"] / seconds["next"], 1),
    }


def one_by_one(learn, path: Path, files: Items) -> list[float]:
    "The article's loop: both images opened and looked at for each pair."
    model, eye, found = learn.model, eye_of(learn, files), []
    with evaluating(model), torch.no_grad():
        for other in files.paths:
            found.append(float(model(batch_of(eye, path), batch_of(eye, other)).softmax(1)[0, 1]))
    return found
