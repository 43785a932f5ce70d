"""Edited copies of some of the user's images, hidden among them for the time of a run to learn what copies look like."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from .dataset.edits import plant
from .dataset.items import Items
from .find.linkage import connected
from .find.pairs import Pairs
from .find.similarity import cosines
from .find.stages import Neighbours

KIN = 0.2  # probability from which a pair may be one of duplicates that were there before


@dataclass(frozen=True)
class Planted:
    "Copies, their embeddings, and what each is a copy of; item k of them is item n + k of all"

    n: int  # images of the user's
    items: Items
    vectors: np.ndarray  # (m, d)
    sources: np.ndarray  # (m,) int64, which of the n items
    edits: tuple[str, ...]

    def among(self, items: Items) -> Items:
        "`items` and the copies after them."
        return replace(
            items,
            paths=items.paths + self.items.paths,
            labels=items.labels + self.items.labels,
            splits=items.splits + self.items.splits,
        )

    def pairs(self, near: Neighbours) -> Pairs:
        "Each copy with those of the images that are nearest to it; the score is the cosine."
        copy, image = np.array(near.of(self.vectors), dtype=np.int64).reshape(-1, 2).T
        return Pairs.of(copy + self.n, image, cosines(near.vectors, image, copy, others=self.vectors))

    def scores(
        self,
        pairs: Pairs,  # as `pairs` gave them
        probability: np.ndarray,  # (len(pairs),) of each
        ranked: Pairs,  # the user's own pairs, by probability
    ) -> tuple[np.ndarray, np.ndarray]:  # (m,), and one for each pair of different pictures
        "Probabilities of each copy with its source, 0 where it is no candidate, and of copies with other pictures."
        # What resembles the source may be a duplicate of it that was there before, and stands for it.
        family = np.arange(self.n)
        for ks in connected(ranked.above(KIN)):
            family[ks] = ks[0]
        copy = pairs.i - self.n
        own = family[self.sources[copy]] == family[pairs.j]
        same = np.zeros(len(self.items))
        np.maximum.at(same, copy[own], probability[own])
        return same, probability[~own]


@contextmanager
def planted(
    items: Items,
    look: Callable[[Items], tuple[np.ndarray, Items]],  # embeds other images, and says which it could read
    n: int,
    seed: int = 0,
) -> Iterator[Planted]:
    "At most `n` copies, each of another image, in a temporary folder; none where a transform fails on them."
    with tempfile.TemporaryDirectory(prefix="imgclean-") as folder:
        copies = plant(items, min(n, len(items)), folder, seed)
        if len(copies.items):
            vectors, readable = look(copies.items)
            if len(readable) == len(copies.items):
                yield Planted(len(items), copies.items, np.asarray(vectors), copies.sources, copies.edits)
                return
        yield Planted(len(items), copies.items.subset([]), np.empty((0, 0)), np.empty(0, np.int64), ())
