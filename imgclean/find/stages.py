"""Pairs of the same picture by what needs no model: equal files, equal pixels, perceptual hashes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .hamming import oriented_pairs
from .pairs import Pairs

if TYPE_CHECKING:
    from ..features.hashes import Hashes

MAX_DISTANCE = 6  # bits of 64; measured in docs/hashes.md


def hash_pairs(
    hashes: Hashes,
    max_distance: int = MAX_DISTANCE,  # bits of 64 in which perceptual hashes may differ
) -> list[tuple[str, Pairs]]:
    """The pairs of each stage, cheapest first: "exact" (equal files), "same pixels" and "perceptual".

    Scores go up to 1, for what is identical. Of a crowd of equal files each is paired with the first alone, and
    `left_out` counts the other pairs. What cannot be read, and by perceptual hash what is plain, is in no pair.
    """
    return [
        ("exact", equal_pairs(hashes.content)),
        ("same pixels", equal_pairs(hashes.pixels)),
        ("perceptual", oriented_pairs(hashes.perceptual, max_distance, among=~hashes.plain)),
    ]


def equal_pairs(digests: Sequence[bytes | None]) -> Pairs:
    "Each item with the first one that has the same digest, score 1; None is equal to nothing."
    first: dict[bytes, int] = {}
    counts: dict[bytes, int] = {}
    pairs = []
    for k, digest in enumerate(digests):
        if digest is None:
            continue
        if digest in first:
            pairs.append((k, first[digest]))
        first.setdefault(digest, k)
        counts[digest] = counts.get(digest, 0) + 1
    i, j = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    every = sum(n * (n - 1) // 2 for n in counts.values())
    return Pairs.of(i, j, np.ones(len(pairs)), every - len(pairs))
