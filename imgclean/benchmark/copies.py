"""How well similarity tells edited copies from other images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ..dataset.items import Items
from ..features.activations import embed
from ..features.backbones import default_learner
from ..find.similarity import similar_pairs
from ..formatter import MIN_SIMILARITY
from .common import print_json
from .scores import ranking, read_truth


def copies(
    folder: Annotated[Path, typer.Argument(help="Images, some of them copies of others.")],
    truth: Annotated[
        Path, typer.Argument(help="csv with the columns file and group: one group, one picture.")
    ],
    arch: Annotated[str, typer.Option(help="Model that looks.")] = "tf_efficientnet_lite0",
    pool_dim: Annotated[list[int], typer.Option(help="Pooling to measure; may be repeated.")] = [1, 4],  # noqa: B006
) -> None:
    "How well similarity tells copies from other images: precision, recall, average precision, seconds."
    items = Items.from_folder(folder)
    group_of = dict(zip(items.paths, read_truth(items, truth).groups, strict=True))
    learn, rows = default_learner(items, arch), []
    for dim in pool_dim:
        seen = embed(learn, items, pool_dim=dim)
        groups = [group_of[path] for path in seen.items.paths]
        rows.append(
            {"pool_dim": dim, "d": seen.vectors.shape[1]} | score(seen.vectors, groups, MIN_SIMILARITY)
        )
    print_json({"images": len(items), "arch": arch, "min_similarity": MIN_SIMILARITY, "rows": rows})


def score(
    vectors: np.ndarray,  # (n, d) float
    groups: list[str],  # of each row; rows of one group are true duplicates
    min_similarity: float,
) -> dict:
    "Precision and recall of the pairs at `min_similarity`, and of all pairs ranked by similarity."
    n = len(groups)
    pairs = similar_pairs(vectors, n=n * (n - 1) // 2)
    ids = np.unique(groups, return_inverse=True)[1]
    hit = ids[pairs.i] == ids[pairs.j]
    true = int(hit.sum())
    precision = hit.cumsum() / np.arange(1, len(hit) + 1)
    above = pairs.score >= min_similarity
    at_99 = np.flatnonzero(precision >= 0.99)
    return {
        "true_pairs": true,
        "pairs": int(above.sum()),
        "precision": round(float(hit[above].mean()) if above.any() else 1.0, 4),
        "recall": round(float(hit[above].sum() / true), 4),
        **ranking(hit, pairs.score, true),
        "similarity_at_precision_99": round(float(pairs.score[at_99[-1]]) if len(at_99) else 1.0, 4),
    }
