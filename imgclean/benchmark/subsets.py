"""Whether the precision that a run promises is held: asked again and again, on random halves of a dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..cascade import Found, find_duplicates
from ..dataset.items import Items
from ..features.activations import embed
from ..features.backbones import default_learner
from .common import commit
from .scores import Keys, Truth, score


def check_subsets(
    items: Items,
    truth: Truth,
    min_precision: float,
    n: int,
    kept: Path
    | None = None,  # file with a JSON line for each half that is done: a run that was stopped goes on
) -> dict:
    """In how many of `n` random halves of the groups the pairs are as precise as was promised; what was expected of each.

    Images are embedded once; copies are planted, and the cut is learnt, in each subset by itself. Expected recall is of
    planted copies with their originals, so recall is told of such pairs as well.
    """
    about = {"items": items.key().hex(), "min_precision": min_precision, "commit": commit()}
    rows = _known(kept, about) if kept and kept.exists() else {}
    todo = [seed for seed in range(n) if seed not in rows]
    for seed, row in _rows(items, truth, min_precision, todo) if todo else ():
        rows[seed] = row
        if kept:
            with kept.open("a") as f:
                f.write(json.dumps(about | {"seed": seed, "row": row}) + "\n")
    done = [rows[seed] for seed in range(n)]
    return {"n": n, "held": sum(row["held"] for row in done)} | _means(done) | {"rows": done}


def _known(kept: Path, about: dict) -> dict[int, dict]:
    "Seed -> row of the lines that say the same of themselves; one that was cut off counts as none."
    rows = {}
    for text in kept.read_text().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if about.items() <= line.items():
            rows[line["seed"]] = line["row"]
    return rows


def _rows(items: Items, truth: Truth, min_precision: float, seeds: list[int]) -> Iterator[tuple[int, dict]]:
    "Each of `seeds` with what came of its half."
    learn = default_learner(items)
    seen = embed(learn, items, progress=False)
    at = {path: k for k, path in enumerate(items.paths)}
    place = [at[path] for path in seen.items.paths]  # unreadable images are not among the embedded

    def look(more: Items) -> tuple[np.ndarray, Items]:
        copies = embed(learn, more, progress=False, precision=seen.precision)
        return copies.vectors, copies.items

    for seed in seeds:
        ks = half_of_groups([truth.groups[k] for k in place], seed)
        found = find_duplicates(
            seen.vectors[ks],
            seen.items.subset(ks),
            look,
            min_precision=min_precision,
            progress=False,
            seed=seed,
        )
        yield seed, _row(found, truth.subset([place[k] for k in ks]), min_precision)


def half_of_groups(groups: list[str], seed: int) -> list[int]:
    "Items of a random half of the groups, in order."
    names = sorted(set(groups))
    chosen = set(np.random.default_rng(seed).permutation(names)[: (len(names) + 1) // 2])
    return [k for k, group in enumerate(groups) if group in chosen]


def _row(found: Found, truth: Truth, min_precision: float) -> dict:
    pairs: Keys = {(i, j) for i, j, _ in found.pairs}
    of_originals = set(truth.of_originals())
    calibration = found.calibration
    return {
        "images": len(truth.groups),
        **score(pairs, truth),
        "held": not pairs or len(pairs & truth.pairs()) / len(pairs) >= min_precision,
        "recall_of_originals": round(len(pairs & of_originals) / len(of_originals), 4)
        if of_originals
        else None,
        "cut": round(found.cut, 4),
        "expected_precision": _rounded(calibration.precision) if calibration else None,
        "expected_recall": _rounded(calibration.recall) if calibration else None,
    }


def _rounded(estimate: tuple[float, ...]) -> list[float]:  # value, low, high
    return [round(x, 4) for x in estimate]


def _means(rows: list[dict]) -> dict:
    "Means over the subsets that have a number for it."
    means = {}
    for name in ("precision", "recall", "recall_of_originals", "expected_precision", "expected_recall"):
        values = [v[0] if isinstance(v, list) else v for row in rows if (v := row[name]) is not None]
        means[f"mean_{name}"] = round(float(np.mean(values)), 4) if values else None
    return means
