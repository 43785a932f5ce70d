"""The cascade behind `DatasetFormatter`: candidates, a second look at each, and a cut learnt on these very images."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from time import perf_counter

import numpy as np

from .checks import remembered_checks
from .dataset.edits import plant
from .dataset.items import Items
from .features.cache import Cache
from .features.hashes import hash_items
from .find.calibrate import Calibration, calibrate, check_precision
from .find.linkage import connected
from .find.pairs import Pairs
from .find.similarity import cosines, nearest
from .find.stages import candidates, equal_pairs, hash_pairs, linked_pairs, neighbour_pairs
from .find.verify import Album, Check, checked
from .find.whitening import Whitening

log = logging.getLogger(__name__)
NEIGHBOURS = 4  # of each image, and as many by whitened vectors: more true pairs than 10, in half as many (docs/benchmarks.md)
HASHED = 100_000  # images up to which every two perceptual hashes are compared
PLANTED = 200  # copies
UNCALIBRATED = 0.5  # probability that a pair needs where there are too few images to plant copies among
KIN = 0.2  # probability from which a pair may be one of duplicates that were there before


@dataclass(frozen=True)
class Found:
    "What the cascade found among some items"

    pairs: Pairs  # above the cut; the score is the probability of being the same picture
    candidates: Pairs  # all that had a second look, by probability
    looks: list[tuple[Check, str]] = field(repr=False)  # of each candidate, and the stage that found it
    cut: float
    calibration: Calibration | None  # None: too few images, the cut is `UNCALIBRATED`
    seconds: dict[str, float]

    @property
    def checks(self) -> list[Check]:
        "Of each of `pairs`."
        return [self.looks[k][0] for k in self._places]

    @property
    def stages(self) -> list[str]:
        "The stage that found each of `pairs` first: exact, perceptual, neighbours or linked."
        return [self.looks[k][1] for k in self._places]

    @cached_property
    def place(self) -> dict[tuple[int, int], int]:
        "Pair -> its place among the candidates."
        return {(i, j): k for k, (i, j, _) in enumerate(self.candidates)}

    @cached_property
    def _places(self) -> list[int]:
        return [self.place[i, j] for i, j, _ in self.pairs]


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
    watch = _Watch()
    second = _SecondLook(items, cache, num_workers)
    contents, stages = _by_hashes(items, num_workers, progress)
    watch.lap("hash")
    near = _Neighbours(vectors)
    stages.append(("neighbours", near.pairs()))
    pairs, names = candidates(stages, vectors)
    watch.lap("compare")
    checks = second(pairs, progress)
    pairs, names, checks = _with_linked(vectors, pairs, names, checks, second)
    names = [
        "exact" if contents[i] and contents[i] == contents[j] else name
        for i, j, name in zip(pairs.i, pairs.j, names, strict=True)
    ]  # of a crowd of equal files the stage pairs each with the first alone
    watch.lap("check")
    calibration = _calibration(near, items, look, checked(pairs, checks), second, min_precision, seed)
    watch.lap("calibrate")
    cut = calibration.cut if calibration else UNCALIBRATED
    ranked = checked(pairs, checks)
    # As `Pairs` sorts them.
    order = np.lexsort((pairs.j, pairs.i, -np.array([c.probability for c in checks], dtype=np.float32)))
    looks = [(checks[k], names[k]) for k in order]
    return Found(ranked.above(cut), ranked, looks, cut, calibration, watch.seconds)


class _Watch:
    "Seconds of each stage"

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.at = perf_counter()

    def lap(self, name: str) -> None:
        now = perf_counter()
        self.seconds[name], self.at = now - self.at, now


class _SecondLook:
    "`remembered_checks`, the same way each time; no image is opened anew for the next time"

    def __init__(self, items: Items, cache: bool | str | os.PathLike, num_workers: int | None):
        self.album, self.cache, self.num_workers = Album(items), cache, num_workers

    def __call__(self, pairs: Pairs, progress: bool = False) -> list[Check]:
        return remembered_checks(
            self.album.items, pairs,
            cache=self.cache, num_workers=self.num_workers, progress=progress, album=self.album,
        )  # fmt: skip

    def add(self, items: Items) -> None:
        "More images, numbered after those that are there."
        old = self.album.items
        self.album.items = replace(
            old,
            paths=old.paths + items.paths,
            labels=old.labels + items.labels,
            splits=old.splits + items.splits,
        )

    def forget(self, items: Items) -> None:
        "That temporary files were ever seen."
        if self.cache:
            Cache(None if self.cache is True else self.cache).forget(items.paths)


def _by_hashes(
    items: Items, num_workers: int | None, progress: bool
) -> tuple[list[bytes | None], list[tuple[str, Pairs]]]:
    "Digest of each file, and the pairs of each stage."
    # The second look compares pixels itself, so their digests are not needed here.
    hashes = hash_items(items, pixels=False, num_workers=num_workers, progress=progress)
    if len(items) and not any(hashes.content):
        raise NoPictures(
            f"none of the {len(items)} files can be opened as a picture, so no pair can be looked at again; "
            "give min_similarity= to go by the embeddings alone"
        )
    if len(items) > HASHED:
        return hashes.content, [("exact", equal_pairs(hashes.content))]
    return hashes.content, [(name, pairs) for name, pairs in hash_pairs(hashes) if name != "same pixels"]


class _Neighbours:
    "The nearest of some vectors, as they are and whitened"

    def __init__(self, vectors: np.ndarray):
        self.n, self.whitening = len(vectors), Whitening(vectors)
        self.kinds = [vectors, *([self.whitening(vectors)] if self.whitening.dims else [])]

    def pairs(self) -> Pairs:
        "Each pair of neighbours once; of two scores the better one."
        k = min(NEIGHBOURS, max(self.n - 1, 1))
        found = [neighbour_pairs(*nearest(kind, k)) for kind in self.kinds]
        return reduce(Pairs.merge, found)

    def of(self, others: np.ndarray) -> list[tuple[int, int]]:
        "Each row of `others` with each of its neighbours, sorted."
        asked = [others, *([self.whitening(others)] if self.whitening.dims else [])]
        k, found = min(NEIGHBOURS, self.n), set()
        for x, kind in zip(asked, self.kinds, strict=True):
            index, _ = nearest(x, k, others=kind)
            row, place = np.nonzero(index >= 0)
            found.update(zip(row.tolist(), index[row, place].tolist(), strict=True))
        return sorted(found)


def _with_linked(vectors, pairs, names, checks, second) -> tuple[Pairs, list[str], list[Check]]:
    "Candidates and their checks, with those that two others link."
    same = checked(pairs, checks).above(UNCALIBRATED)
    more = linked_pairs(same, pairs)
    more = Pairs.of(more.i, more.j, cosines(vectors, more.i, more.j))
    i, j, score = (np.concatenate(ab) for ab in zip(_arrays(pairs), _arrays(more), strict=True))
    # Unsorted on purpose: entry k goes with check k.
    return Pairs(i, j, score), [*names, *["linked"] * len(more)], [*checks, *second(more)]


def _arrays(pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return pairs.i, pairs.j, pairs.score


def _calibration(near, items, look, ranked, second, min_precision, seed) -> Calibration | None:
    with tempfile.TemporaryDirectory(prefix="imgclean-") as folder:
        copies = plant(items, min(PLANTED, len(items)), folder, seed)
        if not len(copies.items):
            return None
        of_copies, readable = look(copies.items)
        if len(readable) != len(copies.items):  # a transform that some of them broke
            return None
        same, other = _planted_scores(near, of_copies, copies, ranked, second)
        second.forget(copies.items)
    try:
        return calibrate(
            ranked.score.astype(np.float64), same, other,
            min_precision=min_precision, edits=copies.edits, seed=seed,
        )  # fmt: skip
    except ValueError as err:
        log.info("not calibrated: %s", err)
        return None


def _planted_scores(near, of_copies, copies, ranked, second) -> tuple[np.ndarray, np.ndarray]:
    "Probabilities of each planted copy with its source, 0 where it is no candidate, and with other pictures."
    n, vectors = near.n, near.kinds[0]
    copy, image = np.array(near.of(of_copies), dtype=np.int64).reshape(-1, 2).T
    pairs = Pairs.of(copy + n, image, cosines(vectors, image, copy, others=of_copies))
    second.add(copies.items)
    p = np.array([check.probability for check in second(pairs)])
    source = copies.sources[pairs.i - n]
    own = source == pairs.j
    same = np.zeros(len(copies.items))
    same[pairs.i[own] - n] = p[own]
    # What resembles the source may be a duplicate of it that was there before.
    family = np.arange(n)
    for ks in connected(ranked.above(KIN)):
        family[ks] = ks[0]
    return same, p[family[source] != family[pairs.j]]
