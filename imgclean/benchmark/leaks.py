"""How many of CIFAR-10's test images are in its training set, by the tool's own cut, and a split that parts no group."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import typer

from ..checks import remembered_checks
from ..dataset.items import Items
from ..find.splits import leak_free_column
from ..find.verify import checked
from ..formatter import verified_groups_of
from ..leaks import Leaks
from .cifar import candidates, looker
from .common import print_json


def leaks(
    folder: Annotated[Path, typer.Argument(help="Images in test/CLASS/ and train/CLASS/.")],
    listed: Annotated[list[Path], typer.Argument(help="csv files with the columns image and duplicate.")],
    size: Annotated[int, typer.Option(help="Pixels a side that the model sees.")] = 64,
    neighbours: Annotated[
        int, typer.Option(help="More candidates of each test image, by model and by pixels.")
    ] = 3,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps vectors and second looks.")] = None,
    num_workers: Annotated[int | None, typer.Option(help="Processes of the second look.")] = None,
) -> None:
    "Share of the test images with a copy in train, how many listed ones are among them, and a leak-free split."
    start, keep = perf_counter(), cache or False
    look = looker(Items.from_folder(folder), size, keep)
    seen = look(Items.from_folder(folder))
    again = partial(look, precision=seen.precision)
    groups = verified_groups_of(
        seen.vectors, seen.items, lambda items: again(items)[:2],
        cache=keep, num_workers=num_workers, progress=False,
    )  # fmt: skip
    found, items, calibration = Leaks(seen.items, groups), seen.items, groups.found.calibration
    pairs = candidates(items, seen.vectors, neighbours)
    checks = remembered_checks(items, pairs, cache=keep, num_workers=num_workers, progress=False)
    ranked = checked(pairs, checks)
    leaked = set(found.leaked("test", "train"))
    more = {cut: leaked | _test_images(items, ranked.above(cut)) for cut in (groups.found.cut, 0.5)}
    print_json(
        {
            "images": len(items),
            "cut": round(groups.found.cut, 4),
            "expected_precision": [round(x, 4) for x in calibration.precision] if calibration else None,
            "pairs": len(groups.pairs),
            "groups": len(groups),
            "images_in_groups": sum(map(len, groups)),
            "groups_across": len(found.groups),
            "in_words": str(found),
            "report": found.report().round(4).to_dict("records"),
            "by_label": found.by_label().round(4).to_dict("records"),
            "listed_found": {path.name: _listed(items, path, leaked) for path in listed},
            "with_more_candidates": {
                f"at {cut:.2f}": {
                    "leaked": len(ks),
                    "listed_found": {path.name: _listed(items, path, ks) for path in listed},
                }
                for cut, ks in more.items()
            },
            "leak_free_split": _split(items, groups),
            "seconds": {name: round(s, 1) for name, s in groups.seconds.items()}
            | {"all": round(perf_counter() - start, 1)},
        }
    )


def _test_images(items: Items, pairs: Iterable[tuple[int, int, float]]) -> set[int]:
    return {k for i, j, _ in pairs for k in (i, j) if items.splits[k] == "test"}


def _listed(items: Items, path: Path, leaked: set[int]) -> list[int]:  # [found, listed]
    "How many of the test images that a file lists are among `leaked`."
    with path.open(newline="", encoding="utf-8") as f:
        images = {row["image"] for row in csv.DictReader(f)}
    return [len(images & {items.relpath(k) for k in leaked}), len(images)]


def _split(items: Items, groups: Sequence[Sequence[int]], valid_pct: float = 0.2, seed: int = 42) -> dict:
    "What a leak-free split of all images is like, beside a random one that is stratified by label alone."
    start = perf_counter()
    columns = {"leak_free": leak_free_column(items, groups, valid_pct, seed=seed)}
    seconds = perf_counter() - start
    columns["random"] = leak_free_column(items, [], valid_pct, seed=seed)
    return {name: _described(items, groups, column) for name, column in columns.items()} | {
        "seconds": round(seconds, 2)
    }


def _described(items: Items, groups: Sequence[Sequence[int]], column: list[str]) -> dict:
    valid = np.array(column) == "valid"
    labels = np.array(items.labels)
    whole, part = (np.array([(some == c).mean() for c in items.vocab]) for some in (labels, labels[valid]))
    parted = Leaks(replace(items, splits=tuple(column)), groups)
    return {
        "valid": int(valid.sum()),
        "groups_across": len(parted.groups),
        "valid_leaked": len(parted.leaked()),
        "largest_change_of_a_class_share": float(np.abs(whole - part).max().round(6)),
        "share_of_groups_in_valid": round(float(np.mean([valid[group[0]] for group in groups])), 4)
        if groups
        else None,
    }
