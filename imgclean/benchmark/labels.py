"""How many of the labels that people found wrong come first in each ranking, cleanlab's beside ours."""

from __future__ import annotations

import csv
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import typer

from ..dataset.items import Items
from ..features.activations import embed
from ..features.backbones import default_learner
from ..find.labels import NEED_NEIGHBOURS, RANKINGS, label_scores, neighbour_shares, pooled, ranked
from ..find.similarity import nearest
from ..find.suspects import NEIGHBOURS
from .common import print_json
from .peers import check_installed

LOOKED_AT = (100, 200, 275)  # images from the top of a ranking
MAJORITY = 3  # of five people
PLANTED, RUNS = 200, 10  # wrong labels that are planted in a run


def labels(
    folder: Annotated[Path, typer.Argument(help="Images in test/CLASS/ and train/CLASS/.")],
    probs: Annotated[Path, typer.Argument(help="npz with paths, probs and classes of the test images.")],
    review: Annotated[
        Path, typer.Argument(help="csv with image and votes_given: who of five found the label right.")
    ],
    size: Annotated[int, typer.Option(help="Pixels a side that the model sees for the neighbours.")] = 128,
    layer: Annotated[str | None, typer.Option(help="Its layer; default: the last stage.")] = None,
) -> None:
    "How many wrong labels are among the first images of each ranking: those people found, and planted ones."
    check_installed("cleanlab", option="labels")
    known = np.load(probs)
    names, p = known["paths"].tolist(), known["probs"].astype(np.float64)
    p /= p.sum(axis=1, keepdims=True)  # kept in float16
    classes = known["classes"].tolist()
    start = perf_counter()
    neighbours = Neighbours(Items.from_folder(folder), names, classes, size, layer)
    seconds = perf_counter() - start
    given = np.array([name.split("/")[1] for name in names])[:, None] == np.array(classes)
    votes = {
        row["image"]: int(row["votes_given"])
        for row in csv.DictReader(review.open(newline="", encoding="utf-8"))
    }
    judged = np.array([name in votes for name in names])
    wrong = np.array([votes.get(name, MAJORITY) < MAJORITY for name in names])
    scores = all_scores(p, given, neighbours.shares(given))
    orders = {name: ranked(score) for name, score in scores.items()}
    print_json(
        {
            "images": len(names),
            "judged": int(judged.sum()),
            "wrong": int(wrong.sum()),
            "neighbours": {
                "layer": neighbours.layer,
                "size": size,
                "among": len(neighbours.column),
                "right": round(float((neighbours.shares(given).argmax(1) == given.argmax(1)).mean()), 4),
                "seconds": round(seconds, 1),
            },
            "found": {name: found(order, wrong) for name, order in orders.items()},
            "found_among_judged": {
                name: found(order[judged[order]], wrong, (50, 100)) for name, order in orders.items()
            },
            "gained_and_lost": differences(
                orders["combined"], orders["cleanlab self-confidence"], wrong, LOOKED_AT[0]
            ),
            "planted": planted(p, given, neighbours),
            "peer_versions": {"cleanlab": version("cleanlab")},
        }
    )


class Neighbours:
    "The nearest of each test image among all images, by cosine"

    def __init__(self, items: Items, names: list[str], classes: list[str], size: int, layer: str | None):
        learn = default_learner(items, size=size)
        seen = embed(learn, items, layer, progress=False, cache=True)
        self.layer = seen.layer
        place = {seen.items.relpath(k): k for k in range(len(seen.items))}
        self.rows = np.array([place[name] for name in names])
        self.column = np.array([classes.index(label) for label in seen.items.labels])
        index, cosine = nearest(seen.vectors[self.rows], NEIGHBOURS + 1, others=seen.vectors)
        itself = index == self.rows[:, None]
        itself[~itself.any(axis=1), -1] = True  # copies that tie with it: the last goes
        self.index = index[~itself].reshape(-1, NEIGHBOURS)
        self.cosine = cosine[~itself].reshape(-1, NEIGHBOURS)

    def shares(self, given: np.ndarray) -> np.ndarray:  # (n, c) bool -> (n, c)
        "Shares of the classes, where the test images are labelled as `given`."
        column = self.column.copy()
        column[self.rows] = given.argmax(axis=1)
        return neighbour_shares(self.index, self.cosine, column[:, None] == np.arange(given.shape[1]))


def all_scores(p: np.ndarray, given: np.ndarray, shares: np.ndarray) -> dict[str, np.ndarray]:
    "The scores of every ranking: ours, cleanlab's, and what else was tried."
    from cleanlab.rank import get_label_quality_scores

    ours = {
        by: label_scores(p, given, by, shares=shares if by in NEED_NEIGHBOURS else None) for by in RANKINGS
    }
    theirs = {
        f"cleanlab {method.replace('_', '-')}": get_label_quality_scores(given.argmax(1), p, method=method)
        for method in ("self_confidence", "normalized_margin")
    }
    return ours | theirs | others(p, given, shares)


def others(p: np.ndarray, given: np.ndarray, shares: np.ndarray) -> dict[str, np.ndarray]:
    "Scores of other ways to hear both the model and the neighbours."
    product, mean = p * shares, (p + shares) / 2
    places = [ranked(ranked(probs[given])) for probs in (p, shares)]
    return {
        "pooled, self-confidence": pooled(p, shares, given)[given],
        "product, margin": _margin(product / product.sum(axis=1, keepdims=True), given),
        "mean, margin": _margin(mean, given),
        "sum of places": places[0] + places[1],
    }


def _margin(probs: np.ndarray, given: np.ndarray) -> np.ndarray:  # (n,)
    return probs[given] - np.where(given, 0, probs).max(axis=1)


def found(order: np.ndarray, wrong: np.ndarray, looked_at: tuple[int, ...] = LOOKED_AT) -> dict[str, int]:
    "How many of the wrong labels are among so many first images."
    return {f"in_{n}": int(wrong[order[:n]].sum()) for n in looked_at}


def differences(ours: np.ndarray, theirs: np.ndarray, wrong: np.ndarray, n: int) -> dict[str, int]:
    "Wrong labels that only one of two rankings has among its first `n` images: how far chance may reach."
    a, b = (set(order[:n][wrong[order[:n]]].tolist()) for order in (ours, theirs))
    return {"looked_at": n, "only_combined": len(a - b), "only_cleanlab": len(b - a)}


def planted(p: np.ndarray, given: np.ndarray, neighbours: Neighbours) -> dict[str, dict[str, float]]:
    "Mean number of planted wrong labels among the first images of each ranking, over `RUNS` runs."
    totals: dict[str, dict[str, float]] = {}
    for seed in range(RUNS):
        changed, wrong = plant(p, given, seed)
        for name, score in all_scores(p, changed, neighbours.shares(changed)).items():
            counts = found(ranked(score), wrong, (100, 200, 400))
            total = totals.setdefault(name, dict.fromkeys(counts, 0.0))
            for n, count in counts.items():
                total[n] = round(total[n] + count / RUNS, 4)
    return totals


def plant(p: np.ndarray, given: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    "The labels with `PLANTED` of them, at random, changed as the model confuses classes; which ones were."
    rng = np.random.default_rng(seed)
    n, c = given.shape
    confused = np.zeros((c, c))
    np.add.at(confused, (given.argmax(1), p.argmax(1)), 1)
    np.fill_diagonal(confused, 0)
    rows = rng.choice(n, PLANTED, replace=False)
    changed, wrong = given.copy(), np.zeros(n, dtype=bool)
    for k in rows:
        share = confused[given[k].argmax()] + 1e-9  # a class that is never confused goes anywhere
        share[given[k].argmax()] = 0
        changed[k] = np.arange(c) == rng.choice(c, p=share / share.sum())
    wrong[rows] = True
    return changed, wrong
