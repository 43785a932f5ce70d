"""Groups as a review shows them: from what finders or fastai v1 return, without those that are told apart."""

from __future__ import annotations

import operator
from collections.abc import Iterable

from ..find.groups import Group, Groups, Suspect
from .decisions import Apart


def as_groups(idxs: Iterable, duplicates: bool | None = None) -> Groups:
    """`Group`s from what a finder returns: groups, or a flat list of items as fastai v1 had it.

    A flat list means pairs `[a0, b0, a1, b1, …]` with `duplicates`, else single images.
    """
    groups = Groups(_listed(idxs, duplicates))
    if isinstance(idxs, Groups):  # with what a second look found
        groups.pairs, groups.settings, groups.found = idxs.pairs, idxs.settings, idxs.found
        groups.explain = idxs.explain
    return groups


def _listed(idxs: Iterable, duplicates: bool | None) -> list[Group]:
    idxs = [entry.tolist() if hasattr(entry, "tolist") else entry for entry in idxs]
    flat = [hasattr(entry, "__index__") for entry in idxs]
    if not any(flat) and all(isinstance(g, (tuple, list, set)) for g in idxs):
        return [g if isinstance(g, Group) else Group(map(operator.index, g)) for g in idxs]
    if not all(flat):
        wrong = next(entry for entry, ok in zip(idxs, flat, strict=True) if not ok)
        raise TypeError(f"idxs hold {wrong!r:.60}; give groups of item indices, or one flat list of indices")
    if not duplicates:
        return [_alone(k) for k in idxs]
    flat = [operator.index(k) for k in idxs]
    if len(flat) % 2:
        raise ValueError(
            f"a flat list of pairs has {len(flat)} entries; give an even number, two for each pair"
        )
    return [Group(pair) for pair in zip(flat[::2], flat[1::2], strict=True)]


def _alone(k) -> Group:
    if not isinstance(k, Suspect):
        return Group([operator.index(k)])
    group = Group([k], reason=k.reason)
    group.predicted, group.dataset = k.predicted, k.dataset
    return group


def split_apart(group: Group, apart: Apart) -> list[Group]:
    "`group` in parts of which no two images are known to be different pictures; what is alone is left out."
    parts = apart.parts(group)
    if len(parts) == 1:
        return [group]
    return [_part(group, part) for part in parts if len(part) > 1]


def _part(group: Group, part: list[int]) -> Group:
    if part[0] != group[0]:  # another keeper: nobody measured how alike the others are to it
        made = Group(part, group.similarity, protected=group.protected)
    else:
        alike = dict(zip(group, group.scores, strict=False))
        scores = [alike[k] for k in part] if alike else ()
        made = Group(part, group.similarity, scores, group.reason, group.protected)
    made.dataset = group.dataset
    return made
