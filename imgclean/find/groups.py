"""`Pairs` into `Group`s of duplicates, the image to keep first. Knows numbers only, opens no file."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from .pairs import Pairs


class Group(tuple):
    "Item indices of one picture's copies, keeper first, with `similarity`, `scores` and `reason`"

    similarity: float | None  # of the weakest pair that holds the group together
    scores: tuple[float, ...]  # of each image to the keeper, in the group's order
    reason: str  # why the keeper is kept, for a person
    dataset: bytes | None = None  # `Items.key()` of the dataset that the indices mean

    def __new__(cls, images: Iterable[int], similarity=None, scores=(), reason=""):
        group = super().__new__(cls, (int(k) for k in images))
        group.similarity, group.scores, group.reason = similarity, tuple(scores), reason
        return group


class Groups(list):
    "`Group`s, most similar first, with the `pairs` behind them and the `settings` that led to them"

    def __init__(
        self, groups: Iterable[Group] = (), pairs: Pairs | None = None, settings: dict | None = None
    ):
        super().__init__(groups)
        self.pairs, self.settings = pairs, settings or {}
        self.seconds: dict[str, float] = {}  # wall time of each stage


def group_pairs(
    pairs: Pairs,
    facts: Callable[[int], dict],  # item -> {"width", "height", "bytes"}
    scores: Callable[[int, list[int]], Iterable[float]] | None = None,  # (keeper, members) -> similarities
) -> list[Group]:
    """Connected components of `pairs` as `Group`s, most similar first, ties by lowest index.

    The keeper has the most pixels, then the most bytes, then the lowest index.
    """
    groups = []
    for members, similarity in _components(pairs):
        known = {k: facts(k) for k in members}
        keeper, reason = choose_keeper(known)
        rest = [k for k in members if k != keeper]
        alike = [1.0, *scores(keeper, rest)] if scores else ()
        groups.append(Group([keeper, *rest], similarity, alike, reason))
    return sorted(groups, key=lambda g: (-g.similarity, min(g)))


def _components(pairs: Pairs) -> list[tuple[list[int], float]]:
    "Sorted members of each component, with the score of the weakest link of its strongest spanning tree."
    parent: dict[int, int] = {}
    weakest: dict[int, float] = {}

    def find(k: int) -> int:
        root = k
        while parent.setdefault(root, root) != root:
            root = parent[root]
        while parent[k] != root:
            parent[k], k = root, parent[k]
        return root

    for i, j, score in pairs:  # best first, so each link that joins two components is the best there is
        a, b = find(i), find(j)
        if a != b:
            parent[max(a, b)] = min(a, b)
            weakest[min(a, b)] = score
    members: dict[int, list[int]] = {}
    for k in sorted(parent):
        members.setdefault(find(k), []).append(k)
    return [(ks, weakest[root]) for root, ks in members.items()]


def choose_keeper(facts: dict[int, dict]) -> tuple[int, str]:  # (item, reason)
    "The item with the most pixels, then bytes, then the lowest index, and the reason in words."
    pixels = {k: f["width"] * f["height"] for k, f in facts.items()}
    best = min(facts, key=lambda k: (-pixels[k], -facts[k]["bytes"], k))
    f = facts[best]
    if len({p for p in pixels.values()}) > 1:
        return best, f"most pixels ({f['width']}×{f['height']})"
    if len({fact["bytes"] for fact in facts.values()}) > 1:
        return best, f"same pixels, largest file ({human_bytes(f['bytes'])})"
    return best, "same size, first in the dataset"


def human_bytes(n: int) -> str:
    "`n` bytes as people write it: 980 B, 12 kB, 3.4 MB."
    if n < 1000:
        return f"{n} B"
    power = min(int(np.log10(n)) // 3, 3)
    value = n / 1000**power
    return f"{value:.0f} {' kMG'[power]}B" if value >= 10 else f"{value:.1f} {' kMG'[power]}B"
