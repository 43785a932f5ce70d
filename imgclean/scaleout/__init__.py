"""Duplicates among more images than one machine can look at, on Ray Data: all stages, one after the other."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

NEEDED = "looking for duplicates on many machines needs Ray; pip install 'imgclean[ray]'"


@contextmanager
def running() -> Iterator[None]:
    """Ray, quiet: the one that runs, the one that RAY_ADDRESS names, or one of our own until the block ends.

    Raises `ImportError` where it is not installed.
    """
    try:
        import ray.data
    except ImportError:
        raise ImportError(NEEDED) from None
    quiet()
    ours = not ray.is_initialized()
    if ours:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    try:
        yield
    finally:
        if ours:
            ray.shutdown()


def quiet() -> None:
    "No bars and reports of Ray Data's own: there is one for images, in ours."
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
