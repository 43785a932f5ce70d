"""Whether the precision that a run promises is held: asked again and again, on random halves of a dataset."""

from __future__ import annotations

import numpy as np

from ..cascade import Found, find_duplicates
from ..dataset.items import Items
from ..features.activations import embed
from ..features.backbones import default_learner
from .scores import Keys, Truth, score


def check_subsets(items: Items, truth: Truth, min_precision: float, n: int) -> dict:
    """In how many of `n` random halves of the groups the pairs are as precise as was promised; what was expected of each.

    Images are embedded once; copies are planted, and the cut is learnt, in each subset by itself. Expected recall is of
    planted copies with their originals, so recall is told of such pairs as well.
    """
    learn = default_learner(items)
    seen = embed(learn, items, progress=False)
    at = {path: k for k, path in enumerate(items.paths)}
    place = [at[path] for path in seen.items.paths]  # unreadable images are not among the embedded

    def look(more: Items) -> tuple[np.ndarray, Items]:
        copies = embed(learn, more, progress=False, precision=seen.precision)
        return copies.vectors, copies.items

    rows = []
    for seed in range(n):
        ks = half_of_groups([truth.groups[k] for k in place], seed)
        found = find_duplicates(
            seen.vectors[ks],
            seen.items.subset(ks),
            look,
            min_precision=min_precision,
            progress=False,
            seed=seed,
        )
        rows.append(_row(found, truth.subset([place[k] for k in ks]), min_precision))
    return {"n": n, "held": sum(row["held"] for row in rows)} | _means(rows) | {"rows": rows}


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
