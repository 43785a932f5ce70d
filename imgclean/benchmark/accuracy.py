"""How many of the true duplicates a run with a second look finds, and how many of its pairs are true."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import typer

from ..dataset.items import Items
from ..formatter import DatasetFormatter
from .common import print_json, ranking


def accuracy(
    folder: Annotated[Path, typer.Argument(help="Images, some of them copies of others.")],
    truth: Annotated[
        Path | None,
        typer.Argument(
            help="csv with the columns file, group and edit; without it no two images are the same."
        ),
    ] = None,
    min_precision: Annotated[float, typer.Option(help="As from_similars'.")] = 0.99,
) -> None:
    "Precision and recall of what a verified run finds, of its ranking, and for each kind of edit; seconds."
    items = Items.from_folder(folder)
    rows = {row["file"]: row for row in csv.DictReader(truth.open(newline=""))} if truth else {}
    names = [items.relpath(k) for k in range(len(items))]
    groups = [rows[name]["group"] if rows else name for name in names]
    edits = [rows[name].get("edit", "") if rows else "" for name in names]
    start = perf_counter()
    ds, idxs = DatasetFormatter.from_similars(items, min_precision=min_precision, progress=False, cache=False)
    seconds = perf_counter() - start
    at = {path: k for k, path in enumerate(items.paths)}
    place = [at[path] for path in ds.paths]  # unreadable images are not in `ds`
    ours = {_key(place[a], place[b]) for group in idxs for a, b in combinations(group, 2)}
    calibration = idxs.found.calibration
    result = {
        "images": len(items),
        "ours": _score(ours, groups)
        | {
            "groups": len(idxs),
            "false_groups": _false_groups(idxs, place, groups),
            "seconds": round(seconds, 1),
        }
        | {f"seconds_{name}": round(s, 1) for name, s in idxs.seconds.items()},
        "expected": {"precision": calibration.precision, "recall": calibration.recall}
        if calibration
        else None,
        "settings": {k: v for k, v in idxs.settings.items() if isinstance(v, (int, float, str, type(None)))},
    }
    if rows:
        ranked = [_key(place[i], place[j]) for i, j, _ in idxs.found.candidates]
        result["ranking"] = _ranking(ranked, groups)
        result["recall_by_edit"] = _by_edit(ours, groups, edits)
    print_json(result)


def _key(a: int, b: int) -> tuple[int, int]:
    return max(a, b), min(a, b)


def _true_pairs(groups: list[str]) -> set[tuple[int, int]]:
    members: dict[str, list[int]] = {}
    for k, group in enumerate(groups):
        members.setdefault(group, []).append(k)
    return {_key(a, b) for ks in members.values() for a, b in combinations(ks, 2)}


def _score(pairs: set[tuple[int, int]], groups: list[str]) -> dict:
    "Precision and recall of `pairs`; precision is 1 where there are none."
    true = _true_pairs(groups)
    hits = len(pairs & true)
    return {
        "true_pairs": len(true),
        "pairs": len(pairs),
        "precision": round(hits / len(pairs), 4) if pairs else 1.0,
        "recall": round(hits / len(true), 4) if true else None,
    }


def _false_groups(idxs: Iterable, place: list[int], groups: list[str]) -> int:
    "Groups that hold images of more than one picture."
    return sum(len({groups[place[k]] for k in group}) > 1 for group in idxs)


def _ranking(keys: list[tuple[int, int]], groups: list[str]) -> dict:
    "Of all candidates, best first: true pairs that are none count as found last."
    true = _true_pairs(groups)
    hit = np.array([key in true for key in keys], dtype=bool)
    return {
        "candidates": len(keys),
        "recall_of_candidates": round(float(hit.sum() / len(true)), 4),
    } | ranking(hit, len(true))


def _by_edit(found: set, groups: list[str], edits: list[str]) -> dict[str, list[int]]:  # [found, all]
    "Pairs of an original and its copy, by what was done to the copy."
    originals = {g: k for k, (g, e) in enumerate(zip(groups, edits, strict=True)) if e == "original"}
    counts: dict[str, list[int]] = {}
    for k, (group, edit) in enumerate(zip(groups, edits, strict=True)):
        if edit != "original" and group in originals:
            count = counts.setdefault(edit, [0, 0])
            count[0] += _key(k, originals[group]) in found
            count[1] += 1
    return dict(sorted(counts.items()))
