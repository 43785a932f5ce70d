"""Which search to use for how many rows: exact while it can be afforded, clusters beyond."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import psutil
import torch

log = logging.getLogger(__name__)
MOST_EXACT = {
    "cpu": 1_000_000,
    "cuda": 10_000_000,
}  # rows; about an hour on one CPU thread, see docs/search.md
CLUSTERS_RECALL = 0.98  # of pairs at .9, three clusters a row, a million synthetic rows: docs/indexes.md


@dataclass(frozen=True)
class Choice:
    "A method of search, what to expect of it, and why it was chosen"

    method: str  # "exact" or "clusters"
    expected_recall: float  # share of the true pairs that it finds
    memory: int  # bytes beside the embeddings
    reason: str


def choose_method(
    n: int,  # rows
    d: int,  # numbers a row
    *,
    device: torch.device | str | None = None,  # default: cuda where there is one
    memory: int | None = None,  # bytes that the search may take; default: half of what is free
) -> Choice:
    "What method='auto' stands for, by the number of rows, their length and the memory; also logged."
    kind = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")).type
    memory = free_memory() // 2 if memory is None else memory
    needed, most = exact_memory(n, d), MOST_EXACT.get(kind, MOST_EXACT["cpu"])
    if needed > memory:
        why = f"exact search of {n} rows takes {needed / 1e9:.1f} GB, and {memory / 1e9:.1f} GB may be used"
        choice = Choice("clusters", CLUSTERS_RECALL, memory, why)
    elif n > most:
        why = f"{n} rows are more than the {most} for which exact search on {kind} is a matter of an hour at most"
        choice = Choice("clusters", CLUSTERS_RECALL, needed, why)
    else:
        choice = Choice("exact", 1.0, needed, f"{n} rows are at most the {most} that exact search can afford")
    log.info("method %s, expected recall %g: %s", choice.method, choice.expected_recall, choice.reason)
    return choice


def exact_memory(n: int, d: int) -> int:  # bytes
    "What exact search takes beside the embeddings: a sketch in float16, the pairs kept, and a few blocks."
    return 2 * min(d, 256) * n + 40 * n + 8 * 1024 * max(d, 1024)


def free_memory() -> int:  # bytes
    return psutil.virtual_memory().available
