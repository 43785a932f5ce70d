"""Which items of `Pairs` hang together: connected, or around a centre. Knows numbers only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from .pairs import Pairs

SLACK = 2e-6  # by which two computations of one similarity differ
CENTRES = 4  # that a group remembers where a look at a missing pair costs a computation
Scores = Callable[[int, list[int]], Iterable[float]]  # (item, others) -> similarities


class Forest:
    "Union-find: the groups so far, each named after its smallest member"

    def __init__(self) -> None:
        self.parent: dict[int, int] = {}

    def find(self, k: int) -> int:
        root = k
        while self.parent.setdefault(root, root) != root:
            root = self.parent[root]
        while self.parent[k] != root:
            self.parent[k], k = root, self.parent[k]
        return root

    def join(self, a: int, b: int) -> bool:
        "Make the groups of `a` and `b` one; whether they were two."
        a, b = self.find(a), self.find(b)
        self.parent[max(a, b)] = min(a, b)
        return a != b

    def groups(self) -> list[list[int]]:
        "Sorted members of each group of two or more, ordered by the first member."
        members: dict[int, list[int]] = {}
        for k in sorted(self.parent):
            members.setdefault(self.find(k), []).append(k)
        return [ks for ks in members.values() if len(ks) > 1]


def connected(pairs: Pairs) -> list[list[int]]:
    "Connected components of `pairs`: sorted members of each, ordered by the first; a chain is one of them."
    forest = Forest()
    for i, j, _ in pairs:
        forest.join(i, j)
    return forest.groups()


def stars(
    pairs: Pairs,
    *,
    verified: np.ndarray | None = None,  # (m,) bool: pairs known to be one picture, which always join
    scores: Scores | None = None,  # asked for a missing pair where `complete` is False
    complete: bool | None = None,  # a missing pair is one that is not alike; default: none were left out
) -> list[list[int]]:
    """Groups in which one member, the centre, is alike to all others: sorted members of each, ordered by the first.

    Pairs are taken best first, and one joins two groups only if what comes out has a centre: the copies of a
    picture stay together around it however far they are from each other, a chain falls apart. Images that
    `verified` pairs connect are in one group from the start; others join it by the same rule alone. Where pairs
    are missing that may be alike, `scores` tells, compared with the weakest of `pairs`; without it they count as
    alike, which gives `connected`. Raises `ValueError` where `verified` does not fit the pairs.
    After the star algorithm for document clustering (Aslam, Pelekhov and Rus, 2004), joined bottom up.
    """
    same = Forest()
    for i, j in _ends(pairs, _checked(verified, len(pairs))):
        same.join(i, j)
    links = _Links(pairs, same, scores, (pairs.left_out == 0) if complete is None else complete)
    for i, j, _ in pairs:
        links.join(i, j)
    return links.forest.groups()


def weakest_links(pairs: Pairs, groups: list[list[int]]) -> list[float]:
    "For each group the score of the weakest link of its strongest spanning tree."
    group_of = {k: g for g, ks in enumerate(groups) for k in ks}
    forest, weakest = Forest(), [1.0] * len(groups)
    for i, j, score in pairs:  # best first, so the last link that joins is the weakest
        g = group_of.get(i)
        if g is not None and g == group_of.get(j) and forest.join(i, j):
            weakest[g] = score
    return weakest


def _checked(verified: np.ndarray | None, n: int) -> np.ndarray:  # (n,) bool
    if verified is None:
        return np.zeros(n, dtype=bool)
    verified = np.asarray(verified)
    if verified.shape != (n,) or verified.dtype != bool:
        raise ValueError(
            f"verified has shape {verified.shape} and dtype {verified.dtype}; give one bool for each of {n} pairs"
        )
    return verified


def _ends(pairs: Pairs, which: np.ndarray) -> Iterator[tuple[int, int]]:
    return zip(pairs.i[which].tolist(), pairs.j[which].tolist(), strict=True)


class _Links:
    "Groups that grow pair by pair, and the members of each that are alike to all its others"

    def __init__(self, pairs: Pairs, forest: Forest, scores: Scores | None, complete: bool):
        self.forest, self.scores, self.complete = forest, scores, complete
        self.low = float(pairs.score[-1]) - SLACK if len(pairs) else 0.0
        self.near: dict[int, set[int]] = {}
        for i, j, _ in pairs:
            self.near.setdefault(i, set()).add(j)
            self.near.setdefault(j, set()).add(i)
        groups = {ks[0]: ks for ks in forest.groups()}
        self.members = {k: groups.get(k, [k]) for k in self.near if forest.find(k) == k}
        self.centres = {k: self._first_centres(ks) for k, ks in self.members.items()}
        self.refused: dict[tuple[int, int], tuple[int, int]] = {}  # two groups, and their sizes then

    def join(self, i: int, j: int) -> None:
        "Make the groups of `i` and `j` one if that has a centre."
        a, b = self.forest.find(i), self.forest.find(j)
        if a == b:
            return
        if len(self.members[a]) < len(self.members[b]):
            a, b = b, a
        sizes = len(self.members[a]), len(self.members[b])
        if self.refused.get((a, b)) == sizes:
            return
        centres = self._centres(a, b)
        if not centres:
            self.refused[a, b] = sizes
            return
        self.forest.join(a, b)
        members = self.members.pop(a)
        members += self.members.pop(b)
        del self.centres[a], self.centres[b]
        self.members[min(a, b)], self.centres[min(a, b)] = members, centres

    def _first_centres(self, ks: list[int]) -> list[int]:
        "Members that are alike to all others of a group that was there before."
        if self.complete:
            return [
                c for c in ks if len(self.near[c]) >= len(ks) - 1 and self.near[c].issuperset({*ks} - {c})
            ]
        best = sorted(ks, key=lambda c: (-len(self.near[c]), c))[:CENTRES]
        return [c for c in best if self._alike(c, [k for k in ks if k != c])]

    def _centres(self, a: int, b: int) -> list[int]:
        "Centres of the larger group `a` and the smaller `b` taken as one."
        large, small = self.members[a], self.members[b]
        if self.complete:
            least = len(large) + len(small) - 1
            found = [c for c in self.centres[a] if self.near[c].issuperset(small)]
            others = [c for c in self.centres[b] if len(self.near[c]) >= least]
            return found + [c for c in others if self.near[c].issuperset(large)]
        found = [c for c in self.centres[a] if self._alike(c, small)]
        # A look at all of a large group is worth it only for what has more neighbours than its centres.
        least = max((len(self.near[c]) for c in found), default=0)
        others = [c for c in self.centres[b] if len(self.near[c]) > least and self._alike(c, large)]
        return sorted(found + others, key=lambda c: (-len(self.near[c]), c))[:CENTRES]

    def _alike(self, c: int, others: list[int]) -> bool:
        "Whether `c` is alike to each of `others`, those not among its pairs asked for a few at a time."
        unknown = [k for k in others if k not in self.near[c]] if self.scores else []
        start, size = 0, 16
        while start < len(unknown):
            if min(self.scores(c, unknown[start : start + size])) < self.low:
                return False
            start, size = start + size, 2 * size
        return True
