"""Measures imgclean and prints JSON: `python -m imgclean.benchmark copies FOLDER TRUTH.csv`, `… features FOLDER`."""

from __future__ import annotations

import csv
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

if TYPE_CHECKING:
    from .dataset.items import Items

app = typer.Typer(help=__doc__, add_completion=False)


@app.callback()
def _root() -> None:
    "A command for each thing that is measured."


@app.command()
def copies(
    folder: Annotated[Path, typer.Argument(help="Images, some of them copies of others.")],
    truth: Annotated[
        Path, typer.Argument(help="csv with the columns file and group: one group, one picture.")
    ],
    arch: Annotated[str, typer.Option(help="Model that looks.")] = "tf_efficientnet_lite0",
    pool_dim: Annotated[list[int], typer.Option(help="Pooling to measure; may be repeated.")] = [1, 4],  # noqa: B006
) -> None:
    "How well similarity tells copies from other images: precision, recall, average precision, seconds."
    from .dataset.items import Items
    from .features.activations import embed
    from .features.backbones import default_learner
    from .formatter import MIN_SIMILARITY

    items = Items.from_folder(folder)
    group_of = {row["file"]: row["group"] for row in csv.DictReader(truth.open(newline="", encoding="utf-8"))}
    missing = [items.relpath(k) for k in range(len(items)) if items.relpath(k) not in group_of]
    if missing:
        raise typer.BadParameter(f"{truth} has no line for {missing[0]!r} and {len(missing) - 1} other files")
    learn, rows = default_learner(items, arch), []
    for dim in pool_dim:
        seen = embed(learn, items, pool_dim=dim)
        groups = [group_of[seen.items.relpath(k)] for k in range(len(seen.items))]
        rows.append(
            {"pool_dim": dim, "d": seen.vectors.shape[1]} | score(seen.vectors, groups, MIN_SIMILARITY)
        )
    _print({"images": len(items), "arch": arch, "min_similarity": MIN_SIMILARITY, "rows": rows})


@app.command()
def features(
    folder: Annotated[Path, typer.Argument(help="Images.")],
    arch: Annotated[str, typer.Option(help="Model that looks.")] = "tf_efficientnet_lite0",
    repeats: Annotated[int, typer.Option(help="Runs of each kind; medians are printed.")] = 3,
) -> None:
    "Images a second of a whole pass, its share of what forward pass and decoding allow, and of a second pass."
    import os
    import resource
    import tempfile

    from .dataset.items import Items
    from .features.activations import embed
    from .features.backbones import default_learner

    items = Items.from_folder(folder)
    learn = default_learner(items, arch)
    forward, decode = _bare(learn, items)
    limit = 1 / (forward + decode / (os.cpu_count() or 1))
    n = len(items)
    cold = _median(lambda: embed(learn, items), repeats)
    with tempfile.TemporaryDirectory() as cache:
        first = _median(lambda: embed(learn, items, cache=cache), 1)
        warm = _median(lambda: embed(learn, items, cache=cache), repeats)
    result = {
        "images": n,
        "arch": arch,
        "forward_ms": round(forward * 1000, 2),
        "decode_ms": round(decode * 1000, 2),
        "limit_images_per_s": round(limit, 1),
        "images_per_s": round(n / cold, 1),
        "share_of_limit": round(n / cold / limit, 3),
        "images_per_s_filling_the_cache": round(n / first, 1),
        "warm_to_cold": round(warm / cold, 4),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    _print(result)


def _median(work: Callable[[], object], repeats: int) -> float:  # seconds
    times = []
    for _ in range(repeats):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return median(times)


def _bare(learn, items: Items) -> tuple[float, float]:  # seconds an image
    "Forward pass of full batches as fast as fp32 goes, and decoding with the Learner's item transforms in one process."
    from copy import deepcopy

    import torch

    from .features.activations import _Looked
    from .features.backbones import evaluating

    looked = _Looked(learn, items.paths)
    device = next(learn.model.parameters()).device
    some = range(0, len(items), max(1, len(items) // 200))
    start = perf_counter()
    xs = [x for k in some for x in [looked[k][1]] if x is not None]
    decode = (perf_counter() - start) / len(some)
    xb = looked.to_batch(torch.stack((xs * 64)[:64]), device).contiguous(memory_format=torch.channels_last)
    model = deepcopy(learn.model).to(memory_format=torch.channels_last)
    with evaluating(model), torch.no_grad():
        model(xb)
        return _median(lambda: model(xb), 5) / len(xb), decode


def score(
    vectors: np.ndarray,  # (n, d) float
    groups: list[str],  # of each row; rows of one group are true duplicates
    min_similarity: float,
) -> dict:
    "Precision and recall of the pairs at `min_similarity`, and of all pairs ranked by similarity."
    from .find.similarity import similar_pairs

    n = len(groups)
    pairs = similar_pairs(vectors, n=n * (n - 1) // 2)
    ids = np.unique(groups, return_inverse=True)[1]
    hit = ids[pairs.i] == ids[pairs.j]
    true = int(hit.sum())
    precision, recall = hit.cumsum() / np.arange(1, len(hit) + 1), hit.cumsum() / true
    above = pairs.score >= min_similarity
    at_99 = np.flatnonzero(precision >= 0.99)
    return {
        "true_pairs": true,
        "pairs": int(above.sum()),
        "precision": round(float(hit[above].mean()) if above.any() else 1.0, 4),
        "recall": round(float(hit[above].sum() / true), 4),
        "average_precision": round(float(precision[hit].mean()), 4),
        "recall_at_precision_99": round(float(recall[at_99[-1]]) if len(at_99) else 0.0, 4),
        "similarity_at_precision_99": round(float(pairs.score[at_99[-1]]) if len(at_99) else 1.0, 4),
    }


def _print(result: dict) -> None:
    "The result with what is needed to judge it: command, commit and machine."
    import torch

    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    about = {
        "command": " ".join(["python -m imgclean.benchmark", *sys.argv[1:]]),
        "commit": git.stdout.strip() or None,
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    typer.echo(json.dumps(about | result, indent=1))


if __name__ == "__main__":
    app()
