"""The cascade behind `DatasetFormatter`: candidates, a second look at each, and a cut learnt on these very images."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from .dataset.edits import plant
from .dataset.items import Items
from .find.calibrate import Calibration, calibrate, check_precision
from .find.pairs import Pairs
from .find.similarity import nearest
from .find.verify import Check, checked, verify_pairs

log = logging.getLogger(__name__)
NEIGHBOURS = 10  # of each image; of the true pairs of edited photos .987 are among them (docs/benchmarks.md)
PLANTED = 200  # copies
UNCALIBRATED = 0.5  # probability that a pair needs where there are too few images to plant copies among


@dataclass(frozen=True)
class Found:
    "What the cascade found among some items"

    pairs: Pairs  # above the cut; the score is the probability of being the same picture
    checks: list[Check]  # of each of `pairs`
    candidates: Pairs  # all that had a second look, by probability
    cut: float
    calibration: Calibration | None  # None: too few images, the cut is `UNCALIBRATED`
    seconds: dict[str, float]


def find_duplicates(
    vectors: np.ndarray,  # (n, d) float, row k embeds items[k]
    items: Items,
    look: Callable[
        [Items], tuple[np.ndarray, Items]
    ],  # the same embedding for other images, and those it could read
    *,
    min_precision: float = 0.99,
    num_workers: int | None = None,
    progress: bool = True,
    seed: int = 0,
) -> Found:
    """Pairs that show the same picture, so that a share of at least `min_precision` of them is expected to be true.

    Each image's nearest neighbours by cosine have a second look, `verify_pairs`. Edited copies of some of the images
    are planted among them, in a temporary folder, to learn the probability from which pairs are good enough.
    """
    check_precision(min_precision)  # before the long work
    start = perf_counter()
    candidates = _candidates(*nearest(vectors, min(NEIGHBOURS, max(len(items) - 1, 1))))
    found_at = perf_counter()
    checks = verify_pairs(items, candidates, num_workers=num_workers, progress=progress)
    probability = np.array([check.probability for check in checks])
    checked_at = perf_counter()
    calibration = _calibration(
        vectors, items, look, candidates, probability, min_precision, num_workers, seed
    )
    cut = calibration.cut if calibration else UNCALIBRATED
    order = np.lexsort((candidates.j, candidates.i, -probability.astype(np.float32)))
    ranked = checked(candidates, checks)
    taken = int((probability >= cut).sum())
    seconds = {
        "compare": found_at - start,
        "check": checked_at - found_at,
        "calibrate": perf_counter() - checked_at,
    }
    return Found(ranked.top(taken), [checks[k] for k in order[:taken]], ranked, cut, calibration, seconds)


def _candidates(index: np.ndarray, score: np.ndarray) -> Pairs:
    "Each pair of neighbours once."
    i, j, score = _listed(index, score)
    keys, first = np.unique(np.maximum(i, j) * len(index) + np.minimum(i, j), return_index=True)
    return Pairs.of(keys // len(index), keys % len(index), score[first])


def _listed(index: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "Row, neighbour and score of all that `nearest` found: -1 stands for none."
    row = np.repeat(np.arange(len(index)), index.shape[1])
    there = index.ravel() >= 0
    return row[there], index.ravel()[there], score.ravel()[there]


def _calibration(
    vectors, items, look, candidates, probability, min_precision, num_workers, seed
) -> Calibration | None:
    with tempfile.TemporaryDirectory(prefix="imgclean-") as folder:
        copies = plant(items, min(PLANTED, len(items)), folder, seed)
        if not len(copies.items):
            return None
        of_copies, readable = look(copies.items)
        if len(readable) != len(copies.items):  # a transform that some of them broke
            return None
        same, other = _planted_scores(vectors, of_copies, items, copies, candidates, probability, num_workers)
    try:
        return calibrate(probability, same, other, min_precision=min_precision, edits=copies.edits, seed=seed)
    except ValueError as err:
        log.info("not calibrated: %s", err)
        return None


def _planted_scores(vectors, of_copies, items, copies, candidates, probability, num_workers):
    "Probabilities of each planted copy with its source, 0 where it is no candidate, and with other pictures."
    n = len(items)
    index, score = nearest(of_copies, min(NEIGHBOURS, n), others=vectors)
    copy, j, score = _listed(index, score)
    pairs = Pairs.of(copy + n, j, score)
    both = replace(
        items,
        paths=items.paths + copies.items.paths,
        labels=items.labels + copies.items.labels,
        splits=items.splits + copies.items.splits,
    )
    p = np.array([c.probability for c in verify_pairs(both, pairs, num_workers=num_workers, progress=False)])
    source = copies.sources[pairs.i - n]
    own = source == pairs.j
    same = np.zeros(len(copies.items))
    same[pairs.i[own] - n] = p[own]
    # What resembles the source may be a duplicate of it that was there before.
    alike = probability >= 0.2
    kin = {
        (a, b)
        for i, j in zip(candidates.i[alike], candidates.j[alike], strict=True)
        for a, b in ((i, j), (j, i))
    }
    strange = np.array([(s, b) not in kin for s, b in zip(source, pairs.j, strict=True)], dtype=bool) & ~own
    return same, p[strange]
