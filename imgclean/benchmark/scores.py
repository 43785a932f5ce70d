"""Pairs against what is known of the images: precision, recall, rankings, and each kind of edit."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import typer

from ..dataset.items import Items
from ..find.pairs import Pairs

Keys = set[tuple[int, int]]  # pairs of items, the larger index first


class Truth(NamedTuple):
    "What is known of each item of a dataset"

    groups: tuple[str, ...]  # images of one group show the same picture
    edits: tuple[str, ...]  # "original", or what was done to it; "" where nobody said

    @classmethod
    def of(cls, items: Items, rows: dict[str, tuple[str, str]]) -> Truth:  # file -> (group, edit)
        "Raises `ValueError` where `rows` lacks a file of `items`."
        names = [items.relpath(k) for k in range(len(items))]
        missing = [name for name in names if name not in rows]
        if missing:
            raise ValueError(f"there is no line for {missing[0]!r} and {len(missing) - 1} other files")
        known = [rows[name] for name in names]
        return cls(tuple(group for group, _ in known), tuple(edit for _, edit in known))

    def subset(self, ks: Sequence[int]) -> Truth:
        return Truth(tuple(self.groups[k] for k in ks), tuple(self.edits[k] for k in ks))

    def pairs(self) -> Keys:
        "All pairs that show the same picture."
        members: dict[str, list[int]] = {}
        for k, group in enumerate(self.groups):
            members.setdefault(group, []).append(k)
        return within(members.values())

    def of_originals(self) -> dict[tuple[int, int], str]:  # pair -> edit
        "Pairs of a copy and its original."
        originals = {g: k for k, (g, e) in enumerate(zip(*self, strict=True)) if e == "original"}
        return {
            pair(k, originals[g]): e
            for k, (g, e) in enumerate(zip(*self, strict=True))
            if e != "original" and g in originals
        }


def read_truth(items: Items, path: Path | None) -> Truth:
    "`Truth` of a csv with the columns file, group and perhaps edit; without one no two images are the same."
    if path is None:
        return Truth(tuple(items.relpath(k) for k in range(len(items))), ("",) * len(items))
    with path.open(newline="", encoding="utf-8") as file:
        rows = {row["file"]: (row["group"], row.get("edit") or "") for row in csv.DictReader(file)}
    try:
        return Truth.of(items, rows)
    except ValueError as err:
        raise typer.BadParameter(f"in {path} {err}; add them, or take another csv") from err


def pair(a: int, b: int) -> tuple[int, int]:
    return max(a, b), min(a, b)


def within(groups: Iterable[Iterable[int]]) -> Keys:
    "All pairs of items that are in one group."
    return {pair(a, b) for group in groups for a, b in combinations(group, 2)}


def score(found: Keys, truth: Truth) -> dict:
    "How many of `found` are true, and how many true ones are found; precision is 1 where nothing is found."
    true = truth.pairs()
    hits = len(found & true)
    return {
        "true_pairs": len(true),
        "pairs": len(found),
        "precision": round(hits / len(found), 4) if found else 1.0,
        "recall": round(hits / len(true), 4) if true else None,
    }


def by_edit(found: Keys, truth: Truth) -> dict[str, list[int]]:  # edit -> [found, all]
    "Pairs of an original and its copy, by what was done to the copy."
    counts: dict[str, list[int]] = {}
    for key, edit in truth.of_originals().items():
        count = counts.setdefault(edit, [0, 0])
        count[0] += key in found
        count[1] += 1
    return dict(sorted(counts.items()))


def hits(ranked: Pairs, truth: Truth) -> np.ndarray:  # (m,) bool
    groups = np.unique(truth.groups, return_inverse=True)[1]
    return groups[ranked.i] == groups[ranked.j]


def curve(
    hit: np.ndarray,  # (m,) bool, best first
    scores: np.ndarray,  # (m,) of the same pairs
    true: int,  # pairs that are to be found in all
) -> tuple[np.ndarray, np.ndarray]:
    "Precision and recall above each score that occurs, from the best down: pairs of one score come together."
    ends = np.flatnonzero(np.diff(scores, append=-np.inf) < 0)
    found = hit.cumsum()[ends]
    return found / (ends + 1), found / true


def ranking(hit: np.ndarray, scores: np.ndarray, true: int) -> dict:
    "Average precision and recall at 99 % precision of what `curve` takes."
    precision, recall = curve(hit, scores, true)
    at_99 = recall[precision >= 0.99]
    return {
        "average_precision": round(float((np.diff(recall, prepend=0) * precision).sum()), 4),
        "recall_at_precision_99": round(float(at_99[-1]) if len(at_99) else 0.0, 4),
    }


def score_ranking(ranked: Pairs, truth: Truth) -> dict:
    "`ranking` of pairs of which some true ones may be missing: those count as never found."
    hit, true = hits(ranked, truth), len(truth.pairs())
    return {
        "candidates": len(ranked),
        "recall_of_candidates": round(float(hit.sum() / true), 4),
    } | ranking(hit, ranked.score, true)
