"""What every measurement needs: medians of seconds, and JSON with command, commit and machine."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
import typer


def median_of(work: Callable[[], object], repeats: int) -> float:  # seconds
    times = []
    for _ in range(repeats):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return median(times)


def print_json(result: dict) -> None:
    "The result with what is needed to judge it: command, commit and machine."
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
