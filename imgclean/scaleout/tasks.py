"""Work handed to Ray: a job for each file of embeddings, or for each of many jobs a task, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .tables import Numbering, matrix

if TYPE_CHECKING:
    import ray.data

RETRIES = 10  # of a task whose worker died
PARTITION_BYTES = 2**28  # of vectors that a partition of a shuffle holds, unless a cluster is larger
TASK_BYTES = 2**29  # of vectors that a task compares at a time, or a partition holds at most
RETURNED = 3000  # objects from one task: release/benchmarks/README.md of Ray
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


def partitions(n_bytes: int, most: int) -> int:
    """Into how many partitions so many bytes of vectors are shuffled, `most` at most: of 256 MB each.

    Of up to 512 MB where that would be more objects from one task than Ray's authors test with: what tasks can hold.
    """
    fine, coarse = (-(-n_bytes // size) for size in (PARTITION_BYTES, TASK_BYTES))
    return min(most, max(n_cpus(), min(fine, max(RETURNED, coarse))))


def take_rows(
    numbering: Numbering,
    rows: np.ndarray,  # sorted, each once
    into: np.ndarray | None = None,  # (len(rows), d) float32, where they shall be
) -> np.ndarray:  # (len(rows), d) float32
    "The vectors of some rows; each file is read once, by the workers."
    found = np.empty((len(rows), numbering.d), dtype=np.float32) if into is None else into
    wanted = np.zeros(len(numbering), dtype=bool)
    wanted[rows] = True
    parts = [(file, np.where(wanted[n], n, -1)) for file, n in numbering.parts if wanted[n].any()]
    if parts:
        picked = parts_dataset(parts).map_batches(_pick, batch_format="pyarrow", batch_size=None)
        for table in picked.iter_batches(batch_format="pyarrow", batch_size=None):
            found[np.searchsorted(rows, table["row"].to_numpy())] = matrix(table["vector"])
    return found


def _pick(block: pa.Table) -> Iterator[pa.Table]:
    "The vectors of the rows of files that have a number."
    for file, numbers in parts_in(block):
        there = np.flatnonzero(numbers >= 0)
        vectors = pq.read_table(file, columns=["vector"])["vector"].take(pa.array(there))
        yield pa.table({"row": numbers[there], "vector": vectors})


def rows_in_file(numbering: Numbering, rows: np.ndarray, file: Path) -> np.ndarray:  # (len(rows), d) float32
    "What `take_rows` returns, in a file that is written whole, mapped: they need not fit into memory."
    if not file.exists():
        half = file.with_name(f".{file.name}")
        found = np.lib.format.open_memmap(half, "w+", np.float32, shape=(len(rows), numbering.d))
        take_rows(numbering, rows, found)
        found.flush()
        half.replace(file)
    return np.load(file, mmap_mode="r")
