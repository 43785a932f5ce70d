"""A training and a validation set that part no group of duplicates. Knows labels and indices only, opens no file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..dataset.items import Items, key_of
from .linkage import Forest

if TYPE_CHECKING:
    import pandas as pd

Splitter = Callable[["Items | pd.DataFrame | Sequence"], tuple[list[int], list[int]]]
_ALL = object()  # counted beside the labels


def leak_free_splitter(
    groups: Iterable[Sequence[int]],  # of duplicates, such as `idxs`; or the `Leaks` of `find_leaks`
    valid_pct: float = 0.2,  # share of the images for the validation set
    stratify: bool | Sequence[str] = True,  # each label in both sets alike; or a label for each item
    seed: int | None = 42,
) -> Splitter:
    """A fastai splitter: from the items of the groups to the indices of the training and the validation set.

    All images of a group go to one side, the same ones for the same seed. The items are `list(ds.paths)`, `ds`, or a DataFrame
    of its rows: with `Leaks` rows are found by their `name`, with groups alone they must stand in the order of the groups' items.
    Labels are those of `ds`, of the column `label`, or the name of a path's folder. Raises `ValueError` for other items, where labels are absent, and where a set would be empty.
    """
    if not 0 < valid_pct < 1:
        raise ValueError(f"valid_pct is {valid_pct}; give a share between 0 and 1, such as 0.2")
    found_among = getattr(groups, "items", None)  # of `Leaks`
    named = list(getattr(groups, "duplicates", groups))

    def split(items: Items | pd.DataFrame | Sequence) -> tuple[list[int], list[int]]:
        groups = named
        if found_among is not None and hasattr(items, "columns"):
            groups = _rows_of(groups, found_among, items)
        _check_groups(groups, items)
        labels = _labels(items, stratify)
        chosen = in_valid(labels, groups, valid_pct, np.random.default_rng(seed))
        if chosen.all() or not chosen.any():
            raise ValueError(
                f"with valid_pct={valid_pct}, {len(items)} images in {len(_units(len(items), groups))} groups leave one set "
                "empty; give more images, or another valid_pct"
            )
        return np.flatnonzero(~chosen).tolist(), np.flatnonzero(chosen).tolist()

    return split


def leak_free_column(
    items: Items | pd.DataFrame | Sequence,
    groups: Iterable[Sequence[int]],
    valid_pct: float = 0.2,
    stratify: bool | Sequence[str] = True,
    seed: int | None = 42,
) -> list[str]:  # one for each item
    """ "train" or "valid" for each item, as `leak_free_splitter` says: a column for a DataFrame, or the `splits` of `Items`."""
    _, valid = leak_free_splitter(groups, valid_pct, stratify, seed)(items)
    chosen = set(valid)
    return ["valid" if k in chosen else "train" for k in range(len(items))]


def in_valid(
    labels: Sequence,  # of each item
    groups: Iterable[Sequence[int]],
    valid_pct: float,
    rng: np.random.Generator,
) -> np.ndarray:  # (n,) bool
    """Whether each item is in the validation set, so that groups stay whole and each label has about its share.

    Groups are taken largest first, those of one size in random order. What is still due to the validation set, in all and of each
    label, is carried on, and a group goes there if that leaves less due, by the sum of squares.
    """
    units = _units(len(labels), groups)
    order = sorted(rng.permutation(len(units)).tolist(), key=lambda u: -len(units[u]))
    chosen, due = np.zeros(len(labels), dtype=bool), Counter()
    for u in order:
        counts = Counter(labels[k] for k in units[u])
        counts[_ALL] = len(units[u])
        for label, n in counts.items():
            due[label] += valid_pct * n
        if sum(n * (2 * due[label] - n) for label, n in counts.items()) > 0:
            chosen[units[u]] = True
            due.subtract(counts)
    return chosen


def _units(n: int, groups: Iterable[Sequence[int]]) -> list[list[int]]:
    "What stays together: groups that share an item as one, and each other item by itself."
    forest = Forest()
    for group in groups:
        for k in group[1:]:
            forest.join(group[0], k)
    together = forest.groups()
    grouped = {k for ks in together for k in ks}
    return [*together, *([k] for k in range(n) if k not in grouped)]


def _rows_of(groups: list[Sequence[int]], found_among: Items, table: pd.DataFrame) -> list[list[int]]:
    "The groups as places in a table whose column `name` may have another order, or rows that could not be read."
    if "name" not in table.columns:
        raise ValueError(
            f"the table has the columns {', '.join(map(str, table.columns))}; give one with the column name"
        )
    row: dict[str, int] = {}
    for k, name in enumerate(table["name"]):
        row.setdefault(os.path.normpath(str(name)), k)
    names = [os.path.normpath(found_among.relpath(k)) for k in range(len(found_among))]
    absent = [names[k] for group in groups for k in group if names[k] not in row]
    if absent or len(row) < len(table):
        what = f"has no row for {absent[0]}" if absent else "names an image twice"
        raise ValueError(f"the table {what}; give the one that the leaks were found in")
    return [[row[names[k]] for k in group] for group in groups]


def _check_groups(groups: list[Sequence[int]], items) -> None:
    n = len(items)
    outside = [k for group in groups for k in group if not 0 <= k < n]
    if outside:
        raise ValueError(
            f"the groups name item {outside[0]}, but there are {n} items; give the items that they were found among"
        )
    known = {group.dataset for group in groups if getattr(group, "dataset", None)}
    if known and not hasattr(items, "columns") and known != {_key(items)}:
        raise ValueError(
            "these are other items, or in another order, than those that the groups were found among; "
            "give list(ds.paths), with the ds that came with the groups"
        )


def _key(items) -> bytes | None:
    if isinstance(items, Items):
        return items.key()
    paths = list(items)
    return key_of(paths) if all(isinstance(p, (str, os.PathLike)) for p in paths) else None


def _labels(items, stratify: bool | Sequence[str]) -> list:
    n = len(items)
    if isinstance(stratify, (bool, np.bool_)):
        labels = _own_labels(items) if stratify else [""] * n
    else:
        labels = list(stratify)
    if len(labels) != n:
        raise ValueError(f"stratify holds {len(labels)} labels for {n} items; give one for each")
    absent = sum(label is None or label != label for label in labels)  # NaN differs from itself
    if absent:
        raise ValueError(
            f"{absent} of {n} images have no label to stratify by; give stratify=False, or a label for each"
        )
    return labels


def _own_labels(items) -> list:
    if isinstance(items, Items):
        return list(items.labels)
    if hasattr(items, "columns"):
        return list(items["label"]) if "label" in items.columns else [None] * len(items)
    paths = [p if isinstance(p, (str, os.PathLike)) else None for p in items]
    return [p if p is None else os.path.basename(os.path.dirname(os.fspath(p))) for p in paths]
