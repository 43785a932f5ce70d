"""The second look: whether two images are the same picture, how sure that is, and what was done to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import zip_longest
from threading import get_native_id
from time import sleep
from typing import NamedTuple

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import reverse_cuthill_mckee
from threadpoolctl import threadpool_limits
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from ..dataset.cleaned import content_digest
from ..dataset.images import UnreadableImage, open_image
from ..dataset.items import Items
from .align import (
    FINE,
    NOWHERE,
    SIDE,
    Alignment,
    Keypoints,
    Overlap,
    View,
    by_keypoints,
    directly,
    keypoints,
    nudged,
    overlap,
    view_of,
)
from .choose import free_memory
from .edits import edits, full_size
from .pairs import Pairs
from .tiny import TINY, tiny_verdict

GRADES = ("exact", "re-encoded", "edited", "same scene", "similar")
MANY = 15  # keypoints that agree with an alignment, so that no other need be looked for
IMAGE_BYTES = 320_000  # what is kept of an image at most
BATCH = 64  # pairs that a process takes at a time
FEW = 200  # pairs for which no processes are forked
IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


class Check(NamedTuple):
    "What the second look at a pair says"

    probability: float  # that both show the same picture
    grade: str  # one of `GRADES`
    what: str  # what was done to the second as a person says it; "" where unknown
    transform: tuple | None  # 2x3, from pixels of image j (mirrored first where `mirrored`) to those of i
    mirrored: bool


class Evidence(NamedTuple):
    "What the probability of a pair of photos depends on"

    cosine: float
    sure: bool  # the whole pictures lie on each other so well that no keypoints were looked for
    inliers: int
    matches: int
    seen: Overlap  # under the best alignment


NOTHING = Check(0.0, "similar", "", None, False)


def verify_pairs(
    items: Items,
    pairs: Pairs,  # of `items`; the score is the cosine of their embeddings
    *,
    num_workers: int | None = None,  # processes, on Linux; None: as many as cores where it pays
    progress: bool = True,
    done: Callable[[np.ndarray, list[Check]], None]
    | None = None,  # told of places in `pairs` and their checks
    album: Album | None = None,  # of `items`, that remembers what was seen of them in another call
) -> list[Check]:
    """A `Check` for each of `pairs`, in their order; the same however many processes work.

    `done` is called with some of them whenever they are ready. As long as the memory lasts each image is decoded once,
    and its keypoints are computed once. An image that cannot be read is the same as none. Raises `IndexError` where
    `pairs` are not of `items`. Method: RootSIFT (Arandjelovic and Zisserman 2012) and RANSAC, then correlation of what overlaps;
    measurements: docs/verify.md.
    """
    if len(pairs) and (pairs.i.max() >= len(items) or pairs.j.min() < 0):
        raise IndexError(
            f"the pairs name image {int(pairs.i.max())} of {len(items)}; give the items that they were found in"
        )
    checks: list[Check] = [NOTHING] * len(pairs)
    if not checks:
        return checks
    kept = album is not None
    work = _Work(album if kept else Album(items), pairs)
    bar = tqdm(
        total=len(pairs), desc="checking", unit="pair", leave=False, disable=None if progress else True
    )
    with bar, _one_thread_each():
        workers = _workers(num_workers, len(pairs))
        if workers:  # what is known before they are forked, all processes share
            work.album.fill(np.unique(np.concatenate([pairs.i, pairs.j])).tolist(), workers, progress)
        for batch, found in work.done(workers):
            for k, check in zip(batch, found, strict=True):
                checks[k] = check
            if done and len(batch):
                done(batch, found)
            bar.update(len(batch))
    if not kept:
        work.album.clear()
    return checks


class _Work(Dataset):
    "Row k: the k-th batch of pairs, and what was found of them"

    def __init__(self, album: Album, pairs: Pairs):
        self.album, self.pairs = album, pairs
        self.batches = []

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, k: int) -> tuple[np.ndarray, list[Check]]:
        i, j, score = self.pairs.i, self.pairs.j, self.pairs.score
        batch = self.batches[k]
        return batch, [self.album.check(int(i[p]), int(j[p]), float(score[p])) for p in batch]

    def done(self, workers: int) -> Iterable[tuple[np.ndarray, list[Check]]]:
        """All batches, by so many processes, by this one for 0.

        Threads would wait for each other: half of the time goes to short NumPy calls, which hold the interpreter's lock.
        """
        parts = np.array_split(neighbours_together(self.pairs, len(self.album.items)), max(workers, 1))
        # A DataLoader deals its batches out in turn; so each process gets neighbours, and looks at few images.
        queues = [np.array_split(part, range(BATCH, len(part), BATCH)) for part in parts]
        none = np.empty(0, dtype=np.int64)
        self.batches = [batch for turn in zip_longest(*queues, fillvalue=none) for batch in turn]
        fork = "fork" if workers else None
        return DataLoader(
            self, None, num_workers=workers, multiprocessing_context=fork, collate_fn=lambda found: found
        )


def _workers(num_workers: int | None, n_pairs: int) -> int:
    "Processes, where they can be forked and there is enough to do."
    if sys.platform != "linux" or (num_workers is None and n_pairs < FEW):
        return 0
    return os.cpu_count() or 1 if num_workers is None else num_workers


def checked(pairs: Pairs, checks: list[Check]) -> Pairs:
    "The same pairs with the probability for a score; raises `ValueError` where there is not one check for each."
    if len(pairs) != len(checks):
        raise ValueError(f"there are {len(checks)} checks of {len(pairs)} pairs; give those of verify_pairs")
    return Pairs.of(pairs.i, pairs.j, [check.probability for check in checks], pairs.left_out)


class Album:
    "The images of `items`, looked at when they are needed; the latest are kept as long as memory lasts"

    def __init__(self, items: Items):
        self.items = items
        self.room = max(64, free_memory() // 4 // IMAGE_BYTES)  # images
        self.view = lru_cache(self.room)(self._view)
        self.points = lru_cache(self.room)(self._points)
        self.digest = lru_cache(maxsize=None)(self._digest)

    def clear(self) -> None:
        "Give the memory back now: the caches and the album hold each other."
        for kept in (self.view, self.points, self.digest):
            kept.cache_clear()

    def fill(self, ks: list[int], workers: int, progress: bool) -> None:
        "Look at images `ks` by threads, which do not wait for each other here, if all of them have room."
        if len(ks) > self.room:
            return

        def look(k: int) -> None:
            view = self.view(k)
            if view is not None and max(view.size) > TINY:
                self.points(k)

        threads = []
        bar = tqdm(total=len(ks), desc="reading", unit="img", leave=False, disable=None if progress else True)
        with bar, ThreadPoolExecutor(workers, initializer=lambda: threads.append(get_native_id())) as pool:
            for _ in pool.map(look, ks):
                bar.update()
        _wait_until_gone(threads)

    def check(self, i: int, j: int, cosine: float) -> Check:
        "The `Check` of two images."
        a, b = self.view(i), self.view(j)
        if a is None or b is None:
            return NOTHING
        if self._same_bytes(i, j) or self._same_pixels(i, j):
            return Check(1.0, "exact", "", IDENTITY, False)
        if max(*a.size, *b.size) <= TINY:
            return Check(*tiny_verdict(a, b, cosine))
        evidence, found = weigh(a, b, lambda: (self.points(i), self.points(j)), cosine)
        p = probability(evidence)
        check = _verdict(a, b, p, evidence, found)
        if "on top" in check.what:  # or is it only laid a little beside it?
            second = nudged(a, b, found)
            if _worth(second, overlap(a, b, second, FINE)) > _worth(found, overlap(a, b, found, FINE)):
                check = _verdict(a, b, p, evidence, second)
        return check

    def _view(self, k: int) -> View | None:
        try:
            return view_of(open_image(self.items.paths[k], SIDE), self.items.size(k))
        except UnreadableImage:
            return None

    def _points(self, k: int) -> Keypoints:
        return keypoints(self.view(k).grey)

    def _digest(self, k: int) -> bytes:
        try:
            return content_digest(self.items.paths[k])
        except OSError:  # gone since it was looked at
            return b"%d" % k

    def _same_bytes(self, i: int, j: int) -> bool:
        return self.items.n_bytes(i) == self.items.n_bytes(j) and self.digest(i) == self.digest(j)

    def _same_pixels(self, i: int, j: int) -> bool:
        a, b = self.view(i), self.view(j)
        if a.size != b.size or not np.array_equal(a.grey, b.grey) or not np.array_equal(a.rgb, b.rgb):
            return False
        try:
            x, y = (np.asarray(open_image(self.items.paths[k])) for k in (i, j))
        except UnreadableImage:
            return False
        return np.array_equal(x, y)


def _wait_until_gone(threads: list[int]) -> None:
    """Until the system has let go of threads that Python calls finished, where it says so.

    Each still takes leave of OpenCV. A process forked in that moment inherits OpenCV's lock, which nobody will open.
    """
    while any(os.path.exists(f"/proc/self/task/{thread}") for thread in threads):
        sleep(0.001)


def weigh(
    a: View, b: View, points: Callable[[], tuple[Keypoints, Keypoints]], cosine: float
) -> tuple[Evidence, Alignment]:
    "The evidence that two photos are one, and the alignment that it is best seen in; `points` is called if needed."
    thumb, found = directly(a, b)
    seen = overlap(a, b, found) if thumb > 0.4 else NOWHERE
    if seen.ncc > 0.97 and seen.agree > 0.97 and seen.texture > 0.3:  # keypoints would say the same
        return Evidence(cosine, True, 0, 0, seen), found
    for guess in by_keypoints(*points(), b.grey.shape[1], first=bool(found.mirrored and seen.agree > 0.5)):
        other = overlap(a, b, guess)
        if _worth(guess, other) > _worth(found, seen):
            found, seen = guess, other
        if found.inliers >= MANY and seen.agree > 0.9:  # nobody mirrored it as well
            break
    return Evidence(cosine, False, found.inliers, found.matches, seen), found


def _worth(found: Alignment, seen: Overlap) -> float:
    return seen.ncc + seen.agree + 0.02 * min(found.inliers, 25)


def probability(e: Evidence) -> float:
    "That two photos are the same picture."
    return float(1 / (1 + np.exp(-(WEIGHTS @ terms(e) + BIAS))))


def terms(e: Evidence) -> np.ndarray:
    "What the logistic regression sees of the evidence."
    wide, narrow = max(e.seen.cover_i, e.seen.cover_j), min(e.seen.cover_i, e.seen.cover_j)
    return np.array([
        float(e.sure),
        e.cosine,
        e.inliers / max(e.matches, 1),
        e.seen.agree,
        e.seen.agree**2,
        np.log(np.clip(wide, 0.05, 1)),  # in small patches, anything agrees with something
        np.log(np.clip(narrow, 0.02, 1)),
    ])  # fmt: skip


# Logistic regression (scikit-learn, C=3), 2026-11-21, on 11,157 pairs of 10 nearest of 1,493 images made of 250 photos and on 320
# pairs of different photos under the same frame, bar or logo, which count half; data and what came of it: docs/verify.md.
WEIGHTS = np.array([3.65, 4.55, 3.10, 4.23, 6.82, 2.58, 1.01])
BIAS = -9.96


def _verdict(a: View, b: View, p: float, e: Evidence, found: Alignment) -> Check:
    shown = e.sure or e.inliers >= 6 or e.seen.agree > 0.5
    if p < 0.5:
        return Check(p, "same scene" if shown else "similar", "", None, False)
    if not e.sure and e.inliers < 4 and e.seen.ncc < 0.5:  # it looks the same, and nothing says how it lies
        return Check(p, "edited", "", None, False)
    done = edits(a, b, found)
    plain = all(word.startswith("resized") for word in done)
    transform = tuple(tuple(row) for row in full_size(a, b, found).tolist())
    what = ", ".join(done) or "re-encoded"
    return Check(p, "re-encoded" if plain else "edited", what, transform, found.mirrored)


def neighbours_together(pairs: Pairs, n: int) -> np.ndarray:
    "An order of the pairs in which an image comes back soon, so that few need be kept."
    ones = np.ones(len(pairs), dtype=np.int8)
    graph = coo_array((ones, (pairs.i, pairs.j)), shape=(n, n)).tocsr()
    place = np.empty(n, dtype=np.int64)
    place[reverse_cuthill_mckee((graph + graph.T).tocsr(), symmetric_mode=True)] = np.arange(n)
    a, b = place[pairs.i], place[pairs.j]
    return np.lexsort((np.minimum(a, b), np.maximum(a, b)))


@contextmanager
def _one_thread_each() -> Iterator[None]:
    "OpenCV's and the BLAS's own threads would fight the processes that take a batch each."
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        cv2.setNumThreads(before)
