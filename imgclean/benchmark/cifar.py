"""How many of the listed near-duplicates between CIFAR-10's test and training images are found, and how soon."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import typer
from torch import nn

from ..dataset.items import Items
from ..dataset.pixels import pixel_vectors
from ..features.activations import Embeddings, embed
from ..features.backbones import default_learner
from ..find.pairs import Pairs
from ..find.similarity import cosines, nearest
from ..find.verify import checked, verify_pairs
from ..find.whitening import expected_cosines
from .common import print_json

LAYER = "0.model.blocks.3"  # of `default_learner`: early enough to tell places in 32 pixels apart
PIXELS = 16  # a side, for candidates by pixels
REVIEWED = (300, 500, 1000)


def cifar(
    folder: Annotated[Path, typer.Argument(help="Images in test/CLASS/ and train/CLASS/.")],
    listed: Annotated[Path, typer.Argument(help="csv with the columns image and duplicate, as test/….")],
    size: Annotated[int, typer.Option(help="Pixels a side that the model sees.")] = 64,
    neighbours: Annotated[
        int, typer.Option(help="Candidates of each test image, by model and by pixels.")
    ] = 3,
    out: Annotated[Path | None, typer.Option(help="csv to write the verified pairs to, best first.")] = None,
) -> None:
    "Share of the listed test images among the best pairs, one a test image, by cosine and after the second look."
    start = perf_counter()
    seen = look(Items.from_folder(folder), size)
    items, vectors = seen.items, seen.vectors
    seconds = {"embedding": perf_counter() - start}
    pairs = candidates(items, vectors, neighbours)
    seconds["candidates"] = perf_counter() - start - sum(seconds.values())
    expected = expected_cosines(vectors, pairs)
    checks = verify_pairs(items, expected, progress=False)
    seconds["second_look"] = perf_counter() - start - sum(seconds.values())
    ranked = checked(expected, checks)
    truth = {
        (row["image"], row["duplicate"]) for row in csv.DictReader(listed.open(newline="", encoding="utf-8"))
    }
    names = [items.relpath(k) for k in range(len(items))]
    if out:
        _write(out, names, expected, checks)
    print_json(
        {
            "images": len(items),
            "listed": len(truth),
            "candidates": len(pairs),
            "listed_among_candidates": len(truth & {_names(names, i, j) for i, j, _ in pairs}),
            "by_cosine": found(pairs, names, truth),
            "after_the_second_look": found(ranked, names, truth),
            "pairs_at_half": len(ranked.above(0.5)),
            "seconds": {name: round(s, 1) for name, s in seconds.items()},
        }
    )


def look(items: Items, size: int, cache: bool | Path = False) -> Embeddings:  # of (n, d) float32
    "Vectors of where in each readable image what is to be seen."
    return looker(items, size, cache)(items)


def looker(items: Items, size: int, cache: bool | Path = False) -> Callable[[Items], Embeddings]:
    "What sees images as `look` sees `items`, always with the same model."
    learn = default_learner(items, size=size)
    return partial(
        embed, learn, layer=LAYER, pool=nn.AdaptiveAvgPool2d, pool_dim=2, progress=False, cache=cache
    )


def candidates(items: Items, vectors: np.ndarray, neighbours: int) -> Pairs:
    "Each test image with its nearest training images, by `vectors` and by pixels; the score is the cosine of `vectors`."
    splits = np.array(items.splits)
    test, train = np.flatnonzero(splits == "test"), np.flatnonzero(splits == "train")
    if not len(test) or not len(train):
        raise ValueError("there are no test or no training images; give a folder with test/ and train/")
    pixels, readable = pixel_vectors(items, PIXELS)
    if len(readable) != len(items):
        raise ValueError("images have become unreadable during the run; start it again")
    pixels -= pixels.mean(axis=1, keepdims=True)  # else all are alike
    found = []
    for rows in (vectors, pixels):
        k = min(neighbours, len(train))
        index, _ = nearest(rows[test], k, others=rows[train])
        near = index >= 0  # rows of zeros have no neighbours
        found.append(np.stack([test[np.nonzero(near)[0]], train[index[near]]], axis=1))
    a, b = np.unique(np.concatenate(found), axis=0).T
    return Pairs.of(a, b, cosines(vectors, a, b))


def found(pairs: Pairs, names: list[str], truth: set[tuple[str, str]]) -> dict[str, float]:
    "Share of the test images of `truth` among so many best pairs, of which each test image has one, its best."
    place: dict[str, int] = {}
    for i, j, _ in pairs:
        place.setdefault(_names(names, i, j)[0], len(place))
    images = {image for image, _ in truth}
    return {
        f"found_in_{n}": round(sum(place.get(image, n) < n for image in images) / len(images), 4)
        for n in REVIEWED
    }


def _names(names: list[str], i: int, j: int) -> tuple[str, str]:
    "The names of the test and of the training image: 'test/…' comes before 'train/…'."
    first, second = sorted((names[i], names[j]))
    return first, second


def _write(out: Path, names: list[str], pairs: Pairs, checks: list) -> None:
    rows = [
        (*_names(names, i, j), round(check.probability, 4), check.grade, round(cosine, 4), check.what)
        for (i, j, cosine), check in zip(pairs, checks, strict=True)
    ]
    rows.sort(key=lambda row: (-row[2], row[:2]))
    with out.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(("image", "duplicate", "probability", "grade", "cosine", "what"))
        writer.writerows(rows)
