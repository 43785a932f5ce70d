"""Seconds until the command line's help is there and the package is imported, against a Python that does nothing."""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from time import perf_counter
from typing import Annotated

import typer

from .common import print_json

CODES = {
    "pass": ["-c", "pass"],
    "import imgclean": ["-c", "import imgclean"],
    "imgclean --help": ["-m", "imgclean.cli", "--help"],
    "imgclean find --help": ["-m", "imgclean.cli", "find", "--help"],
}


def startup(
    repeat: Annotated[int, typer.Option(help="Runs of each, in turn; the medians count.")] = 11,
) -> None:
    "Seconds to import imgclean and to show the help of its command line, and how many times a bare Python that is."
    print_json(measure(repeat))


def measure(repeat: int) -> dict:
    "What `startup` prints: medians in seconds, and ratios to `python -c pass`."
    seconds = {name: [] for name in CODES}
    for _ in range(repeat):
        for name, args in CODES.items():  # in turn, so that all meet the same load
            start = perf_counter()
            subprocess.run([sys.executable, *args], check=True, capture_output=True)
            seconds[name].append(perf_counter() - start)
    medians = {name: median(values) for name, values in seconds.items()}
    return {
        "seconds": medians,
        "ratio": {name: value / medians["pass"] for name, value in medians.items()},
        "repeat": repeat,
    }
