"""What to do with the images of groups, and why: keep the first of each picture and what is protected, delete the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .session import Review


class Suggestion(NamedTuple):
    "What to do with one image"

    group: int
    item: int
    mark: str  # "keep" or "delete"
    reason: str


def suggested_marks(
    review: Review,
    gs: Iterable[int],
    fixed: Mapping[int, str],  # marks that stand
    whole: bool = False,  # whether to pass over what was told to be no duplicate
) -> dict[int, str]:
    """Mark of each image of groups `gs` that is not in `fixed`, each picture of a group by itself.

    Where groups share images, what one of them keeps serves the others, and none loses its last one.
    """
    gs = list(gs)
    marks = {k: "keep" for g in gs for k in review.groups[g].protected} | dict(fixed)
    for g in gs:
        for part in [review.groups[g]] if whole else review.parts(g):
            kept = [k for k in part if marks.get(k) == "keep"]
            kept = kept or [k for k in part if k not in marks][:1] or [k for k in part if k not in fixed][:1]
            marks |= dict.fromkeys((k for k in part if k not in marks), "delete") | dict.fromkeys(
                kept, "keep"
            )
    return {k: mark for k, mark in marks.items() if k not in fixed}


def suggestions(review: Review, gs: Iterable[int], fixed: Mapping[int, str]) -> list[Suggestion]:
    "The marks of `suggested_marks` with the reason for each, group by group."
    gs = list(gs)
    marks, said, found = suggested_marks(review, gs, fixed), set(), []
    for g in gs:
        group = review.groups[g]
        looks = [None, *review.looks(g)]
        for part in review.parts(g):
            for k in part:
                if k in marks and k not in said:
                    said.add(k)
                    place = group.index(k)
                    alike = group.scores[place] if place < len(group.scores) else None
                    reason = (
                        _why_keep(review, g, k, part)
                        if marks[k] == "keep"
                        else _why_delete(looks[place], alike)
                    )
                    found.append(Suggestion(g, k, marks[k], reason))
    return found


def _why_keep(review: Review, g: int, k: int, part: list[int]) -> str:
    group = review.groups[g]
    if k in group.protected:
        return "protected"
    if len(part) == 1 < len(group):
        return "no other image of the group shows this picture"
    return (group.reason if k == group[0] else "") or "the first of the group"


def _why_delete(look, alike: float | None) -> str:
    if look is not None and look.grade is not None:
        return look.in_words
    return "similar" if alike is None else f"similarity {alike:.3f}"
