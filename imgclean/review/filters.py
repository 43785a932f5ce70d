"""`Filter`: which groups of a review to look at, and in which order, as data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from .looks import rank

if TYPE_CHECKING:
    from .session import Review

STATES = ("all", "undecided", "decided")
SORTS = ("found", "similarity", "label", "size", "grade", "clash")


@dataclass(frozen=True)
class Filter:
    "Groups that fit all that is given, in the order of `sort`; ties as they were found"

    state: str = "all"  # or "undecided", "decided"
    label: str | None = None  # of at least one image
    grade: str | None = None  # worst grade of the group, of `verify.GRADES`
    min_similarity: float | None = None
    max_similarity: float | None = None
    leak: bool = False  # only groups with images in several splits
    clash: bool = False  # only groups with several labels
    predicted: str | None = None  # what a model says of the first image
    actual: str | None = None  # what the dataset says of it, whatever was relabelled
    sort: str = "found"  # or "similarity" and "size", largest first, "label", "grade", best first, "clash"
    reverse: bool = False

    def __post_init__(self):
        for name, allowed in (("state", STATES), ("sort", SORTS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; give one of {', '.join(allowed)}")
        for name in ("min_similarity", "max_similarity"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise ValueError(f"{name} is {value!r}; give a number or None")

    @classmethod
    def of(cls, values: dict) -> Filter:
        "A `Filter` from a dict of its fields; raises `ValueError` for a name that is none."
        unknown = values.keys() - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(
                f"there is no filter {sorted(unknown)[0]!r}; give {', '.join(f.name for f in fields(cls))}"
            )
        return cls(**values)


def select(review: Review, wanted: Filter) -> list[int]:
    "Numbers of the groups that `wanted` describes, in its order."
    chosen = [g for g in range(len(review.groups)) if _fits(review, g, wanted)]
    if wanted.sort != "found":
        chosen.sort(key=_KEYS[wanted.sort](review))
    return chosen[::-1] if wanted.reverse else chosen


def _fits(review: Review, g: int, wanted: Filter) -> bool:
    group, alike = review.groups[g], review.groups[g].similarity
    if wanted.state != "all" and review.is_decided(g) != (wanted.state == "decided"):
        return False
    if wanted.label is not None and wanted.label not in {review.label_of(k) for k in group}:
        return False
    if wanted.min_similarity is not None and (alike is None or alike < wanted.min_similarity):
        return False
    if wanted.max_similarity is not None and (alike is None or alike > wanted.max_similarity):
        return False
    if wanted.predicted is not None and wanted.predicted != group.predicted:
        return False
    if wanted.actual is not None and wanted.actual != review.items.labels[group[0]]:
        return False
    if (wanted.leak and not review.is_leak(g)) or (wanted.clash and not review.is_clash(g)):
        return False
    return wanted.grade is None or review.grade(g) == wanted.grade  # last: it may have to read files


_KEYS = {
    "similarity": lambda review: lambda g: -(review.groups[g].similarity or 0.0),
    "label": lambda review: lambda g: review.label_of(review.groups[g][0]) or "",
    "size": lambda review: lambda g: -len(review.groups[g]),
    "clash": lambda review: lambda g: not review.is_clash(g),
    "grade": lambda review: lambda g: rank(review.grade(g)),
}
