"""`Looks`: what is known of the images of a group beside each other, in words. Opens a file only to compare bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..dataset.identity import Identities
from ..dataset.items import Items

if TYPE_CHECKING:  # opens scipy and OpenCV, which a review without a second look does not need
    from ..find.verify import Check

STARRED = "the starred one is"
# What verify says was done to j to make it of i, as it is said of i beside j; other words are the same both ways.
OTHER_WAY = {
    "framed": f"{STARRED} framed",
    "in black and white": f"{STARRED} in black and white",
    "the first is in black and white": "in black and white",
    "blurred": "sharper",
    "sharper or noisier": "blurred or smoother",
}


class Look(NamedTuple):
    "What is known of an image beside the one to keep"

    grade: str | None  # of `verify.GRADES`; None: nobody looked
    what: str  # what was done to it; "" where that is unknown or nothing
    pair: tuple[int, int] | None = None  # (i, j) of a second look
    check: Check | None = None

    @property
    def in_words(self) -> str:
        "Grade, and what was done to it where that says more; nothing where nobody looked."
        if self.grade is None:
            return ""
        return f"{self.grade}: {self.what}" if self.what not in ("", self.grade) else self.grade


NO_LOOK = Look(None, "")


class Looks:
    "The second look at pairs, where there was one; else whether the files are equal"

    def __init__(self, items: Items, groups: Sequence, known: Identities):
        self.items, self._groups, self._known = items, groups, known

    @cached_property
    def _checks(self) -> dict[tuple[int, int], Check]:
        found = getattr(self._groups, "found", None)  # `cascade.Found`
        if found is None:
            return {}
        pairs = zip(found.pairs.i.tolist(), found.pairs.j.tolist(), strict=True)
        return dict(zip(pairs, found.checks, strict=True))

    def look(self, keeper: int, k: int) -> Look:
        "What is known of item `k` beside item `keeper`."
        pair = max(keeper, k), min(keeper, k)
        check = self._checks.get(pair)
        if check:
            words = check.what.split(", ")
            if k == pair[0]:  # it was looked at from the other side
                words = [_other_way(word, check.mirrored) for word in words]
            what = ", ".join(words).replace("the first is", STARRED)
            return Look(check.grade, what, pair, check)
        return Look("exact", "") if self._equal(keeper, k) else NO_LOOK

    def looks(self, group: Sequence[int]) -> list[Look]:
        "A `Look` for each image of `group` but the first, beside the first; what equals an equal one is equal, too."
        if not group:
            return []
        found = [self.look(group[0], k) for k in group[1:]]
        if not self._checks:
            return found
        same, more = (
            {group[0]} | {k for k, look in zip(group[1:], found, strict=True) if look.grade == "exact"},
            True,
        )
        while more:
            more = {k for k in group if k not in same and any(self._exact(k, other) for other in same)}
            same |= more
        return [
            Look("exact", "") if look.grade is None and k in same else look
            for k, look in zip(group[1:], found, strict=True)
        ]

    def grade(self, group: Sequence[int]) -> str | None:
        "The worst grade of an image beside the first; None where nobody looked at one of them, or there is one only."
        grades = {look.grade for look in self.looks(group)}
        if not grades or None in grades:
            return None
        return max(grades, key=rank)

    @property
    def grades(self) -> list[str]:
        "The grades that groups may have here, best first."
        if not self._checks:
            return ["exact"]
        from ..find.verify import GRADES

        return list(GRADES)

    def alignment(self, left: int, right: int, keeper: int) -> list[float] | None:
        """CSS's matrix [a, b, c, d, e, f] that lays picture `right` on `left`, both in pixels of their files.

        Where nobody looked at the two, by way of `keeper`; None where that is unknown, too.
        """
        direct = self._onto(left, right)
        if direct is None:
            one, other = self._onto(keeper, left), self._onto(keeper, right)
            if one is None or other is None:
                return None
            direct = np.linalg.inv(one) @ other
        return direct[:2].T.ravel().tolist()

    def _onto(self, left: int, right: int) -> np.ndarray | None:  # (3, 3)
        "From pixels of `right` to those of `left`."
        if left == right:
            return np.eye(3)
        i, j = max(left, right), min(left, right)
        check = self._checks.get((i, j))
        if check is None:
            return np.eye(3) if self._equal(i, j) else None
        if check.transform is None:
            return None
        matrix = np.vstack([check.transform, (0, 0, 1)])
        if check.mirrored:
            matrix = matrix @ np.array([[-1, 0, self.items.size(j)[0]], [0, 1, 0], [0, 0, 1]])
        return matrix if left == i else np.linalg.inv(matrix)

    def _exact(self, i: int, j: int) -> bool:
        check = self._checks.get((max(i, j), min(i, j)))
        return check is not None and check.grade == "exact"

    def _equal(self, i: int, j: int) -> bool:
        if self.items.n_bytes(i) != self.items.n_bytes(j):
            return False
        try:
            return self._known.fingerprint(i)[2] == self._known.fingerprint(j)[2]
        except OSError:
            return False


def _other_way(word: str, mirrored: bool) -> str:
    if resized := re.fullmatch(r"resized to (\d+) %", word):
        return f"resized to {1e4 / max(int(resized[1]), 1):.0f} %"
    if cropped := re.fullmatch(r"cropped to (\d+ %)", word):
        return f"shows more: {STARRED} {cropped[1]} of it"
    if more := re.fullmatch(r"shows more: the first is (\d+ %) of it", word):
        return f"cropped to {more[1]}"
    if word.startswith("rotated") and not mirrored:  # a mirror and a turn undo themselves
        there, back = ("counterclockwise", "clockwise")[:: 1 if "counter" in word else -1]
        return word.replace(there, back)
    return OTHER_WAY.get(word, word)


def rank(grade: str | None) -> int:
    "Place among the grades, 0 for exact; what nobody looked at comes last."
    if grade == "exact":  # needs no scipy
        return 0
    from ..find.verify import GRADES

    return GRADES.index(grade) if grade in GRADES else len(GRADES)
