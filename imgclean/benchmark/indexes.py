"""What the approximate searches find of what is there, and what they cost beside exact search."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import process_time
from typing import Annotated

import numpy as np
import typer

from ..find.clusters import cluster_pairs
from ..find.kmeans import default_clusters
from ..find.lsh import LSHIndex
from ..find.pairs import Pairs
from ..find.similarity import similar_pairs, similar_pairs_between
from .common import print_json
from .search import extra_memory, synthetic

LEAST = (0.9, 0.95)  # similarities at which recall is measured
EVERY = 10**8  # more pairs than there are: nothing is left out
Way = Callable[[], Pairs]


def indexes(
    n: Annotated[int, typer.Option(help="Rows.")] = 20_000,
    d: Annotated[int, typer.Option(help="Numbers a row.")] = 512,
    sample: Annotated[
        int, typer.Option(help="Rows whose pairs are all known, by exact search; 0: every row's.")
    ] = 0,
    n_assign: Annotated[list[int], typer.Option(help="Clusters of a row; repeat it.")] = [1, 2, 3],  # noqa: B006
    n_clusters: Annotated[int | None, typer.Option(help="Clusters; default: √n.")] = None,
    lsh: Annotated[list[str], typer.Option(help="n_bits×n_tables, or nothing; repeat it.")] = ["10x5"],  # noqa: B006
    lsh_uncentred: Annotated[bool, typer.Option(help="LSH also without centring.")] = False,
    queries: Annotated[int, typer.Option(help="Searches in each LSH index.")] = 200,
    folder: Annotated[Path | None, typer.Option(help="Where the vectors lie while it runs.")] = None,
) -> None:
    "Recall of clusters and LSH against exact search, with seconds of CPU and memory, on vectors like a network's."
    with tempfile.TemporaryDirectory(dir=folder) as there:
        result = measure(
            synthetic(n, d, folder=Path(there)), sample, n_assign, n_clusters, lsh, lsh_uncentred, queries
        )
    print_json({"n": n, "d": d} | result)


def measure(
    x: np.ndarray, sample: int, n_assign: list[int], n_clusters: int | None, lsh: list[str], uncentred: bool, queries: int
) -> dict:  # fmt: skip
    "Every way to find the pairs of `x`, against the exact one."
    truth, exact = by_sample(x, sample) if sample else by_all(x)
    ways = []
    for m in n_assign:
        found = partial(cluster_pairs, x, min_similarity=LEAST[0], n_clusters=n_clusters, n_assign=m)
        ways.append(
            way(found, truth, exact) | {"clusters": n_clusters or default_clusters(len(x)), "n_assign": m}
        )
    for text in filter(None, lsh):
        n_bits, n_tables = map(int, text.split("x"))
        for center in (True, False) if uncentred else (True,):
            ways.append(by_lsh(x, n_bits, n_tables, center, truth, exact, queries))
    return {"exact": exact, "ways": ways}


def by_all(x: np.ndarray) -> tuple[Pairs, dict]:
    "All pairs, and what finding them took."
    start = process_time()
    truth = similar_pairs(x, min_similarity=LEAST[0], max_pairs=EVERY)
    return truth, {"cpu_seconds": round(process_time() - start, 1), "pairs": len(truth)}


def by_sample(x: np.ndarray, sample: int) -> tuple[Pairs, dict]:
    """The pairs of a sample of rows with any row, and what all pairs would take.

    The time of each further row comes from two samples, so what is done once for all rows is counted once.
    """
    rows = np.sort(np.random.default_rng(1).choice(len(x), sample, replace=False))
    few, many = (_between(x, some) for some in (rows[:: max(2, sample // 2000)], rows))
    a_row = (many[1] - few[1]) / (many[2] - few[2])
    seconds = many[1] + a_row * (len(x) / 2 - sample)
    return many[0], {
        "cpu_seconds": round(seconds, 1),
        "extrapolated_from": {"rows": [few[2], many[2]], "cpu_seconds": [round(few[1], 1), round(many[1], 1)]},
        "pairs": len(many[0]),
        "sample": sample,
    }  # fmt: skip


def _between(x: np.ndarray, rows: np.ndarray) -> tuple[Pairs, float, int]:
    start = process_time()
    found = similar_pairs_between(x, x[rows], min_similarity=LEAST[0], max_pairs=EVERY)
    seconds = process_time() - start
    i = rows[found.i - len(x)]
    other = i != found.j  # not the row itself
    key = np.maximum(i, found.j)[other] * len(x) + np.minimum(i, found.j)[other]
    key, first = np.unique(key, return_index=True)
    return Pairs.of(key // len(x), key % len(x), found.score[other][first]), seconds, len(rows)


def way(find: Way, truth: Pairs, exact: dict) -> dict:
    "What one way of searching costs, and its recall."
    used = {}

    def work() -> None:
        start = process_time()
        used.update(found=find(), seconds=process_time() - start)

    memory = extra_memory(work)
    seconds = used["seconds"]
    return {
        "cpu_seconds": round(seconds, 1),
        "of_exact": round(seconds / exact["cpu_seconds"], 3) if exact["cpu_seconds"] else None,
        "extra_mb": round(memory / 1e6),
        "pairs": len(used["found"]),
        "recall": recall(used["found"], truth),
    }


def recall(found: Pairs, truth: Pairs) -> dict[str, list]:  # similarity -> [recall, true pairs]
    "The share of the true pairs that was found."
    known = set(zip(found.i.tolist(), found.j.tolist(), strict=True))
    result = {}
    for least in LEAST:
        true = truth.above(least)
        hits = sum(pair in known for pair in zip(true.i.tolist(), true.j.tolist(), strict=True))
        result[str(least)] = [round(hits / max(1, len(true)), 4), len(true)]
    return result


def by_lsh(
    x: np.ndarray, n_bits: int, n_tables: int, center: bool, truth: Pairs, exact: dict, queries: int
) -> dict:
    "All pairs by LSH, and of the ten nearest rows of some rows the share that a search finds."
    index = LSHIndex(n_bits, n_tables, center=center)

    def find() -> Pairs:
        index.add(x)
        return index.candidate_pairs(min_similarity=LEAST[0])

    row = way(find, truth, exact) | {"n_bits": n_bits, "n_tables": n_tables, "center": center}
    row["candidates"] = index.n_candidates
    some = np.random.default_rng(2).choice(len(x), min(queries, len(x)), replace=False)
    return row | {"search": ten_nearest(index, some)} if len(some) else row


def ten_nearest(index: LSHIndex, some: np.ndarray) -> dict:
    k, hits, looked = min(10, len(index)), 0, 0
    start = process_time()
    found = [index.search(index.vectors[q], k)[0] for q in some]
    seconds = process_time() - start
    for q, near in zip(some, found, strict=True):
        true = np.argsort(-(index.vectors @ index.vectors[q]), kind="stable")[:k]
        hits += len(np.intersect1d(true, near))
        looked += len(index.candidates(index.vectors[q], k))
    return {
        "queries": len(some),
        "recall_at_10": round(hits / (k * len(some)), 4),
        "rows_looked_at": round(looked / len(some) / len(index), 4),
        "cpu_ms": round(1000 * seconds / len(some), 2),
    }
