"""`Pairs` into `Group`s of duplicates, the image to keep first. Knows numbers only, opens no file."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np

from .keepers import Facts, Keep, check_keep, choose_keeper
from .linkage import Scores, stars, weakest_links
from .pairs import Pairs


class Group(tuple):
    "Item indices of one picture's copies, keeper first, with `similarity`, `scores`, `reason` and `protected`"

    similarity: float | None  # of the weakest pair that holds the group together
    scores: tuple[float, ...]  # of each image to the keeper, in the group's order
    reason: str  # why the keeper is kept, for a person
    protected: tuple[int, ...] = ()  # items that no suggestion deletes, the keeper among them
    dataset: bytes | None = None  # `Items.key()` of the dataset that the indices mean
    predicted: str | None = None  # what a model says of the first image

    def __new__(cls, images: Iterable[int], similarity=None, scores=(), reason="", protected=()):
        group = super().__new__(cls, (int(k) for k in images))
        group.similarity, group.scores, group.reason = similarity, tuple(scores), reason
        safe = frozenset(protected)
        group.protected = tuple(k for k in group if k in safe)
        return group


class Suspect(int):
    "Item index of an image whose label is in doubt, with its `score`, what a model `predicted`, and the `reason`"

    score: float  # the lower, the more doubtful
    predicted: str  # class
    reason: str  # for a person
    dataset: bytes | None  # `Items.key()` of the dataset that the index means

    def __new__(cls, k: int, score: float, predicted: str, reason: str, dataset: bytes | None = None):
        suspect = super().__new__(cls, k)
        suspect.score, suspect.predicted, suspect.reason, suspect.dataset = score, predicted, reason, dataset
        return suspect

    def __reduce__(self):
        return type(self), (int(self), self.score, self.predicted, self.reason, self.dataset)


class Groups(list):
    "`Group`s, most similar first, with the `pairs` behind them and the `settings` that led to them"

    def __init__(
        self, groups: Iterable[Group] = (), pairs: Pairs | None = None, settings: dict | None = None
    ):
        super().__init__(groups)
        self.pairs, self.settings = pairs, settings or {}
        self.seconds: dict[str, float] = {}  # wall time of each stage
        self.protected: frozenset[int] = frozenset()  # items that no suggestion deletes
        self.found: object | None = None  # what a second look found, see `cascade.Found`
        self.computed: int | None = None  # how many images were looked at; others were known, or equal files
        self.looked_at: int | None = None  # images of a run on many machines; of a bucket few are items
        # The groups of another `found` of these images.
        self.regroup: Callable[[object], Groups] | None = None
        # Of two files: which of their regions agree, see `explain.explainer`.
        self.explain: Callable[[os.PathLike, os.PathLike], Sequence] | None = None

    def __getstate__(self) -> dict:
        # They hold vectors and a model, and cannot be pickled.
        return {**self.__dict__, "regroup": None, "explain": None}


def group_pairs(
    pairs: Pairs,
    facts: Callable[[int], Facts],  # item -> {"width", "height", "bytes"}, and what `keep` asks for
    scores: Scores | None = None,  # (keeper, members) -> similarities
    *,
    verified: np.ndarray | None = None,  # (m,) bool: pairs known to be one picture, which always join
    complete: bool
    | None = None,  # whether a missing pair is one that is not alike; default: none were left out
    keep: Keep = "best",  # policy of `choose_keeper`
    protected: Collection[int] = (),  # items that are kept in any case
) -> list[Group]:
    """The duplicates among `pairs` as `Group`s, most similar first, ties by lowest index; no item is in two.

    One member of each group is alike to all others, so a chain of images of which each is like the next is
    several groups; see `linkage.stars`. The keeper is that of `keepers.choose_keeper`.
    """
    check_keep(keep)
    found = stars(pairs, verified=verified, scores=scores, complete=complete)
    groups = []
    for members, similarity in zip(found, weakest_links(pairs, found), strict=True):
        keeper, reason = choose_keeper({k: facts(k) for k in members}, keep, protected)
        rest = [k for k in members if k != keeper]
        alike = [1.0, *scores(keeper, rest)] if scores else ()
        groups.append(Group([keeper, *rest], similarity, alike, reason, protected))
    return sorted(groups, key=lambda g: (-g.similarity, min(g)))
