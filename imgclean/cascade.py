"""The cascade behind `DatasetFormatter`: candidates, a second look at each, and a cut learnt on these very images."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

import numpy as np

from .checks import remembered_checks
from .dataset.items import Items
from .features.cache import Cache
from .features.hashes import content_digests, hash_items
from .find.calibrate import Calibration, calibrate, check_precision
from .find.pairs import Pairs
from .find.stages import Neighbours, candidates, equal_pairs, hash_pairs, linked_pairs
from .find.verify import Album, Check, checked
from .planted import Planted, planted

log = logging.getLogger(__name__)
NEIGHBOURS = 4  # of each image, and as many by whitened vectors: more true pairs than 10, in half as many (docs/benchmarks.md)
HASHED = 100_000  # images up to which every two perceptual hashes are compared
PLANTED = 200  # copies
SURE = 0.9  # probability from which a pair joins two groups whatever else they hold
UNCALIBRATED = 0.5  # probability that a pair needs where there are too few images to plant copies among


@dataclass(frozen=True)
class Found:
    "What the cascade found among some items"

    pairs: Pairs  # above the cut; the score is the probability of being the same picture
    candidates: Pairs  # all that had a second look, by probability
    # Candidate -> its check and the stage that found it.
    looks: dict[tuple[int, int], tuple[Check, str]] = field(repr=False)
    cut: float
    calibration: Calibration | None  # None: too few images, the cut is `UNCALIBRATED`
    seconds: dict[str, float]
    first: Calibration | None = None  # before a person answered
    answers: dict[int, bool] = field(default_factory=dict)  # place of a candidate -> the same picture

    @property
    def checks(self) -> list[Check]:
        "Of each of `pairs`."
        return [self.looks[i, j][0] for i, j, _ in self.pairs]

    @property
    def stages(self) -> list[str]:
        "The stage that found each of `pairs` first: exact, perceptual, neighbours or linked."
        return [self.looks[i, j][1] for i, j, _ in self.pairs]


class NoPictures(ValueError):
    "Pillow can open none of the files, so there is nothing to look at again"


def find_duplicates(
    vectors: np.ndarray,  # (n, d) float, row k embeds items[k]
    items: Items,
    look: Callable[
        [Items], tuple[np.ndarray, Items]
    ],  # the same embedding for other images, and those it could read
    *,
    min_precision: float = 0.99,
    cache: bool
    | str
    | os.PathLike = False,  # where checks are kept: True: the user's cache folder; or a folder
    num_workers: int | None = None,
    progress: bool = True,
    seed: int = 0,
) -> Found:
    """Pairs that show the same picture, so that a share of at least `min_precision` of them is expected to be true.

    Candidates come stage by stage: equal files, perceptual hashes in 8 orientations, each image's nearest by cosine,
    and what these link. All have a second look, `verify_pairs`. Edited copies of some of the images
    are planted among them, in a temporary folder, to learn the probability from which pairs are good enough.
    Raises `NoPictures` where no file can be opened.
    """
    check_precision(min_precision)  # before the long work
    watch = Watch()
    contents, stages = _by_hashes(items, num_workers, progress)
    watch.lap("hash")
    with planted(items, look, PLANTED, seed) as copies:
        watch.lap("plant")
        near = Neighbours(vectors, NEIGHBOURS)
        stages.append(("neighbours", near.pairs(progress)))
        pairs, names = candidates(stages, vectors)
        with_copies = copies.pairs(near)
        watch.lap("compare")
        album = Album(copies.among(items))
        second = partial(remembered_checks, album.items, cache=cache, num_workers=num_workers, album=album)
        checks = second(_joined(pairs, with_copies), progress=progress)
        checks, of_copies = checks[: len(pairs)], checks[len(pairs) :]
        if store := Cache.of(cache):  # temporary files, never to be seen again
            store.forget(copies.items.paths)
    pairs, names, checks = _with_linked(vectors, pairs, names, checks, second)
    album.clear()
    names = [
        "exact" if contents[i] and contents[i] == contents[j] else name
        for i, j, name in zip(pairs.i, pairs.j, names, strict=True)
    ]  # of a crowd of equal files the stage pairs each with the first alone
    watch.lap("check")
    ranked = checked(pairs, checks)
    calibration = _calibration(copies, with_copies, of_copies, ranked, min_precision, seed)
    watch.lap("calibrate")
    # Equal files are equal, whatever was learnt.
    cut = min(calibration.cut, 1.0) if calibration else UNCALIBRATED
    looks = {(i, j): (check, name) for (i, j, _), check, name in zip(pairs, checks, names, strict=True)}
    return Found(ranked.above(cut), ranked, looks, cut, calibration, watch.seconds)


class Watch:
    "Seconds by name"

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.at = perf_counter()

    def lap(self, name: str) -> None:
        "What has passed since the last lap belongs to `name`."
        now = perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.at
        self.at = now


def _by_hashes(
    items: Items, num_workers: int | None, progress: bool
) -> tuple[list[bytes | None], list[tuple[str, Pairs]]]:
    "Digest of each file, and the pairs of each stage."
    if len(items) > HASHED:
        contents = content_digests(items, num_workers)
        return contents, [("exact", equal_pairs(contents))]
    # The second look compares pixels itself, so their digests are not needed here.
    hashes = hash_items(items, pixels=False, num_workers=num_workers, progress=progress)
    if len(items) and not any(hashes.content):
        raise NoPictures(
            f"none of the {len(items)} files can be opened as a picture, so no pair can be looked at again; "
            "give min_similarity= to go by the embeddings alone"
        )
    closed = hashes.content.count(None)
    if closed:
        log.warning("%d of %d files cannot be opened as pictures and are in no group", closed, len(items))
    return hashes.content, [(name, pairs) for name, pairs in hash_pairs(hashes) if name != "same pixels"]


def _with_linked(vectors, pairs, names, checks, second) -> tuple[Pairs, list[str], list[Check]]:
    "Candidates and their checks, with those that two others link."
    same = checked(pairs, checks).above(UNCALIBRATED)
    more, more_names = candidates([("linked", linked_pairs(same, pairs))], vectors)
    return _joined(pairs, more), [*names, *more_names], [*checks, *second(more, progress=False)]


def _joined(a: Pairs, b: Pairs) -> Pairs:
    "One after the other, unsorted on purpose: entry k goes with check k."
    return Pairs(*(np.concatenate(ab) for ab in ((a.i, b.i), (a.j, b.j), (a.score, b.score))))


def _calibration(
    copies: Planted, pairs: Pairs, checks: list[Check], ranked: Pairs, min_precision: float, seed: int
) -> Calibration | None:
    same, other = copies.scores(pairs, np.array([check.probability for check in checks]), ranked)
    try:
        return calibrate(
            ranked.score.astype(np.float64), same, other,
            min_precision=min_precision, edits=copies.edits, seed=seed,
        )  # fmt: skip
    except ValueError as err:
        log.warning("the cut is not learnt but %s: %s", UNCALIBRATED, err)
        return None
