"""What every measurement needs: medians of seconds, and JSON with command, commit and machine."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from threading import Event, Thread
from time import perf_counter

import numpy as np
import psutil
import torch
import typer


def median_of(work: Callable[[], object], repeats: int) -> float:  # seconds
    times = []
    for _ in range(repeats):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return median(times)


@contextmanager
def peak_memory(every: float = 0.5) -> Iterator[Callable[[], float]]:
    """A function that tells, afterwards, how many MB this process and its children took at most above the start.

    Proportional set sizes on Linux, so that what processes share counts once; elsewhere resident sets.
    """
    me, done, peaks = psutil.Process(), Event(), []

    def measure() -> None:
        total = 0
        for process in (me, *me.children(recursive=True)):
            try:
                info = process.memory_full_info()
            except psutil.Error:  # it has just ended
                continue
            total += getattr(info, "pss", info.rss)
        peaks.append(total / 2**20)

    def watch() -> None:
        while not done.wait(every):
            measure()

    measure()
    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: max(peaks) - peaks[0]
    finally:
        measure()
        done.set()
        watcher.join()


def commit() -> str | None:
    "The commit of this code, where it is known."
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return git.stdout.strip() or None


def print_json(result: dict) -> None:
    "The result with what is needed to judge it: command, commit and machine."
    about = {
        "command": " ".join(["python -m imgclean.benchmark", *sys.argv[1:]]),
        "commit": commit(),
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    typer.echo(json.dumps(about | result, indent=1))
