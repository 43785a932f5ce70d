"""Work handed to Ray: a job for each file of embeddings, or for each of many jobs a task, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .tables import Numbering, matrix

if TYPE_CHECKING:
    import ray.data

RETRIES = 10  # of a task whose worker died
AHEAD = 2  # tasks for each CPU that are handed over before the first ends


def parts_dataset(parts: Iterable[tuple[str, object]]) -> ray.data.Dataset:
    "A Ray dataset with one block for each file of embeddings: its name and the numbers of its rows."
    import ray

    numbers = pa.list_(pa.int64())
    return ray.data.from_arrow(
        [pa.table({"part": [file], "numbers": pa.array([n], numbers)}) for file, n in parts]
    )


def parts_in(block: pa.Table) -> Iterator[tuple[str, np.ndarray]]:  # file, (rows,) int64
    "The files of a block of `parts_dataset`, and the numbers of their rows."
    for file, numbers in zip(block["part"], block["numbers"], strict=True):
        yield file.as_py(), numbers.values.to_numpy()


def each(function: Callable, jobs: Iterable[tuple], *shared: object) -> Iterator:
    """What `function(*job, *shared)` returns for each of `jobs`, as they end.

    A task is run again where its worker or node dies; what is `shared` is sent once.
    """
    import ray

    task = ray.remote(max_retries=RETRIES)(function)
    refs = [ray.put(one) for one in shared]
    waiting: list = []
    limit = AHEAD * n_cpus()
    for job in jobs:
        if len(waiting) >= limit:
            done, waiting = ray.wait(waiting)
            yield from ray.get(done)
        waiting.append(task.remote(*job, *refs))
    while waiting:
        done, waiting = ray.wait(waiting)
        yield from ray.get(done)


def n_cpus() -> int:
    "Of the whole cluster."
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def take_rows(numbering: Numbering, rows: np.ndarray) -> np.ndarray:  # (len(rows), d) float32
    "The vectors of some rows, in that order; each file is read once, by the workers."
    found = np.empty((len(rows), numbering.d), dtype=np.float32)
    order = np.argsort(rows, kind="stable")
    wanted = rows[order]

    def pick(block: pa.Table) -> Iterator[pa.Table]:
        for file, numbers in parts_in(block):
            there = np.flatnonzero(np.isin(numbers, wanted))
            vectors = pq.read_table(file, columns=["vector"])["vector"].take(pa.array(there))
            yield pa.table({"row": numbers[there], "vector": vectors})

    parts = [(file, n) for file, n in numbering.parts if np.isin(n, wanted).any()]
    for table in (
        parts_dataset(parts)
        .map_batches(pick, batch_format="pyarrow", batch_size=None)
        .iter_batches(batch_format="pyarrow", batch_size=None)
    ):
        if not len(table):
            continue
        numbers = table["row"].to_numpy()
        by_number = np.argsort(numbers)
        vectors = matrix(table["vector"])
        place = by_number[np.searchsorted(numbers[by_number], wanted) % len(numbers)]
        here = numbers[place] == wanted
        found[order[here]] = vectors[place[here]]
    return found
