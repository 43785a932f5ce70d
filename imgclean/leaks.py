"""Duplicates across the splits of a dataset: which images of one are in another as well, and what that does to a metric."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from .dataset.folders import SPLITS, split_name
from .dataset.frames import frame
from .dataset.items import Items
from .dataset.learners import ds_paths
from .dataset.sources import read_source
from .features.backbones import evaluating
from .find.cost import LeakCost, leak_cost
from .find.groups import Groups
from .find.keepers import Keep
from .find.pairs import Pairs
from .formatter import DatasetFormatter

if TYPE_CHECKING:
    import pandas as pd

ORDER = tuple(dict.fromkeys(SPLITS.values()))  # what comes later has its copies in what comes earlier


@dataclass(frozen=True)
class Leaks:
    """The duplicates among some items, and which of them lie across their splits; `print` says it in words.

    An image of valid has leaked if one of its group is in train. Raises `ValueError` where there are not two splits.
    """

    items: Items
    duplicates: Groups  # all that were found: what `leak_free_splitter` keeps together

    def __post_init__(self):
        _check_splits(self.items)

    def __repr__(self) -> str:
        return f"Leaks({len(self.groups)} groups, {len(self.pairs)} pairs across {', '.join(self.splits)})"

    def __str__(self) -> str:
        return "\n".join(self._in_words(*pair) for pair in self._split_pairs())

    @cached_property
    def splits(self) -> list[str]:
        "The splits of the items: train, valid and test first."
        return _splits(self.items)

    @cached_property
    def groups(self) -> Groups:
        "The groups with images in several splits, for `ImageCleaner(leaks.items, leaks.groups)`."
        across = [g for g in self.duplicates if len({self.items.splits[k] for k in g} - {None}) > 1]
        groups = Groups(across, self.pairs, self.duplicates.settings)
        groups.found, groups.protected = self.duplicates.found, self.duplicates.protected
        groups.explain = self.duplicates.explain
        return groups

    @cached_property
    def pairs(self) -> Pairs:
        "The pairs of `duplicates` across splits and within a group; the score is a probability, or a cosine."
        pairs, splits = self.duplicates.pairs, self.items.splits
        group_of = {k: g for g, group in enumerate(self.duplicates) for k in group}
        across = [
            None not in (splits[i], splits[j], group_of.get(i))
            and splits[i] != splits[j]
            and group_of[i] == group_of.get(j)
            for i, j, _ in pairs
        ]
        across = np.array(across, dtype=bool)
        return Pairs(pairs.i[across], pairs.j[across], pairs.score[across])

    @property
    def grades(self) -> list[str | None]:
        "The grade of each of `pairs`; None where nobody took a second look."
        looks = getattr(self.duplicates.found, "looks", {})
        return [looks[i, j][0].grade if (i, j) in looks else None for i, j, _ in self.pairs]

    def leaked(self, split: str = "valid", by: str = "train") -> list[int]:
        "Items of `split` that have a copy in `by`, sorted."
        return sorted(self._copies(split_name(split), split_name(by)))

    def by_split(self, i: int, j: int) -> tuple[int, int]:
        "Items `i` and `j`, that of the later split first: it is the one that has leaked."
        return (
            (i, j)
            if self.splits.index(self.items.splits[i]) > self.splits.index(self.items.splits[j])
            else (j, i)
        )

    def df(self) -> pd.DataFrame:
        "One row for each of `pairs`: name, label and split of both images, score and grade."
        rows = []
        for (i, j, score), grade in zip(self.pairs, self.grades, strict=True):
            row = {}
            for prefix, k in zip(("", "copy_"), self.by_split(i, j), strict=True):
                row |= {
                    f"{prefix}name": self.items.relpath(k),
                    f"{prefix}label": self.items.labels[k],
                    f"{prefix}split": self.items.splits[k],
                }
            rows.append(row | {"score": score, "grade": grade})
        names = ("name", "label", "split")
        columns = [*names, *(f"copy_{name}" for name in names), "score", "grade"]
        return frame(([row[c] for c in columns] for row in rows), columns)

    def report(self) -> pd.DataFrame:
        """One row for each two splits: images of `split`, how many are `leaked` from `copy_in`, and which share that is.

        `other_label` counts those of which no copy there carries the same label.
        """
        import pandas as pd

        rows = [
            {"split": split, "copy_in": by, **self._numbers(self._members(split), self._copies(split, by))}
            for split, by in self._split_pairs()
        ]
        return pd.DataFrame(rows)

    def by_label(self) -> pd.DataFrame:
        "The rows of `report` for each label by itself, the largest share first; unlabelled images are left out."
        rows = []
        for split, by in self._split_pairs():
            copies, members = self._copies(split, by), defaultdict(list)
            for k in self._members(split):
                members[self.items.labels[k]].append(k)
            found = [
                {"split": split, "copy_in": by, "label": label, **self._numbers(ks, copies)}
                for label, ks in members.items()
                if label is not None
            ]
            rows += sorted(found, key=lambda row: (-row["share"], row["label"]))
        columns = ["split", "copy_in", "label", "images", "leaked", "share", "other_label"]
        return frame(([row[c] for c in columns] for row in rows), columns)

    def _split_pairs(self) -> list[tuple[str, str]]:
        return [(later, earlier) for earlier, later in combinations(self.splits, 2)]

    def _members(self, split: str) -> list[int]:
        if split not in self.splits:
            raise ValueError(f"there is no split {split!r}; the images are in {', '.join(self.splits)}")
        return [k for k, own in enumerate(self.items.splits) if own == split]

    def _copies(self, split: str, by: str) -> dict[int, list[int]]:  # item -> its copies in the other split
        for name in (split, by):
            self._members(name)  # raises for one that there is not
        splits, copies = self.items.splits, {}
        for group in self.groups:
            others = [k for k in group if splits[k] == by]
            copies |= {k: others for k in group if others and splits[k] == split}
        return copies

    def _numbers(self, ks: list[int], copies: dict[int, list[int]]) -> dict:
        leaked, labels = [k for k in ks if k in copies], self.items.labels
        other = [
            k
            for k in leaked
            if labels[k] is not None and not {labels[k], None} & {labels[c] for c in copies[k]}
        ]
        return {
            "images": len(ks),
            "leaked": len(leaked),
            "share": len(leaked) / len(ks),
            "other_label": len(other),
        }

    def _in_words(self, split: str, by: str) -> str:
        all_of = self._numbers(self._members(split), self._copies(split, by))
        if not all_of["leaked"]:
            return f"none of the {all_of['images']} images of {split} has a copy in {by}"
        words = f"{all_of['leaked']} of {all_of['images']} images of {split} ({100 * all_of['share']:.1f} %) have a copy in {by}"
        if all_of["other_label"]:
            words += f", {all_of['other_label']} of them under another label"
        labels = self.by_label().query("split == @split and copy_in == @by")
        if len(labels) > 1:
            most = labels.sort_values("leaked", ascending=False, kind="stable").iloc[0]
            words += f"; most of all {most.label}: {most.leaked} of {most.images}"
        return words


def find_leaks(
    source=None,  # what `read_source` takes: a Learner, a folder, {split: folder}, a table with a column split, …
    *,
    train: str | os.PathLike | None = None,  # folders, in place of `source`
    valid: str | os.PathLike | None = None,
    test: str | os.PathLike | None = None,
    root: str | os.PathLike | None = None,  # of the names of a csv or DataFrame
    learn=None,  # the Learner that looks; default: the source, if it is one, else `default_learner`
    keep: Keep
    | None = None,  # which image of a group stays: "train", "valid" and others, see docs/keepers.md; "best"
    protect: str | os.PathLike | Iterable[str | os.PathLike] = (),  # files and folders that stay in any case
    min_precision: float | None = None,  # share of true pairs after the second look; default 0.99
    min_similarity: float | None = None,  # by cosine alone: all pairs of at least this one
    num_workers: int | None = None,  # processes that look side by side
    progress: bool = True,
    cache: bool | str | os.PathLike = True,  # never look twice: in the user's cache folder; or a folder
) -> Leaks:
    """The duplicates of a dataset and those across its splits, found as `DatasetFormatter.from_similars` finds them.

    Raises `ValueError` where the images are not in two splits or more.
    """
    folders = {name: f for name, f in dict(train=train, valid=valid, test=test).items() if f is not None}
    if (source is None) == (not folders):
        raise ValueError("give either a source of images with splits, or the folders train= and valid=")
    items = read_source(source if source is not None else folders, root=root)
    items = replace(items, splits=tuple(map(split_name, items.splits)))
    _check_splits(items)  # before the long work
    looks = learn if learn is not None else source if hasattr(source, "dls") else items
    return Leaks(
        *DatasetFormatter.from_similars(
            looks, look_at=items, min_similarity=min_similarity, min_precision=min_precision, keep=keep,
            protect=protect, num_workers=num_workers, progress=progress, cache=cache,
        )
    )  # fmt: skip


def leak_report(
    learn,  # a trained fastai Learner
    leaks: Leaks | None = None,  # default: what `find_leaks` finds in the Learner
    metric: Callable
    | None = None,  # (predictions, targets) -> (n,) whether each is right; default: the best class
) -> LeakCost:
    """The Learner's metric on its validation set, with and without the images that have a copy in its training set.

    Nothing is trained again; `print` says it in words, see `find.cost.leak_cost`. Raises `ValueError` for a Learner without a
    validation set, and for leaks of other images.
    """
    if not hasattr(learn, "get_preds"):
        raise TypeError(f"got a {type(learn).__name__}; give the trained fastai Learner")
    if leaks is not None and not isinstance(leaks, Leaks):
        raise TypeError(f"leaks are a {type(leaks).__name__}; give what find_leaks returns")
    paths = _valid_paths(learn.dls)
    leaks = find_leaks(learn) if leaks is None else leaks
    seen = _seen_in_training(leaks, {os.path.abspath(p) for p in ds_paths(learn.dls.train_ds)}, paths)
    dl = learn.dls.valid.new(shuffle=False, drop_last=False)
    with learn.no_bar(), learn.no_logging(), evaluating(learn.model):
        predictions, targets = learn.get_preds(dl=dl)
    right = np.asarray((metric or _best_class)(predictions, targets))
    if right.shape != (len(paths),):
        raise ValueError(
            f"metric returns the shape {right.shape} for {len(paths)} images; give one that tells of each whether it is right"
        )
    return leak_cost(right, np.array([path in seen for path in paths]))


def _seen_in_training(leaks: Leaks, train: set[str], valid: list[str]) -> set[str]:
    "Images of `valid` with a copy in `train`; the splits of `leaks` may be others, from before."
    names = [os.path.abspath(path) for path in leaks.items.paths]
    known = {*names, *(os.path.abspath(bad.path) for bad in leaks.items.unreadable)}
    unknown = len(train.union(valid) - known)
    if unknown:
        raise ValueError(
            f"{unknown} of the Learner's images are not among those of the leaks; give those of find_leaks(learn)"
        )
    groups = [{names[k] for k in group} for group in leaks.duplicates]
    return {name for group in groups if group & train for name in group}


def _best_class(predictions, targets):
    if getattr(targets, "ndim", None) != 1 or predictions.ndim != 2:
        raise ValueError(
            "the Learner does not choose one class for each image; give metric=, a function of predictions and "
            "targets that tells of each image whether it is right"
        )
    return predictions.argmax(1) == targets


def _valid_paths(dls) -> list[str]:  # absolute, in the order of the validation set
    if len(dls.loaders) < 2 or not len(dls.valid_ds):
        raise ValueError("the Learner has no validation set; give one whose DataLoaders have one")
    return [os.path.abspath(path) for path in ds_paths(dls.valid_ds)]


def _splits(items: Items) -> list[str]:
    found = set(items.splits) - {None}
    return [s for s in ORDER if s in found] + sorted(found - set(ORDER))


def _check_splits(items: Items) -> None:
    found = _splits(items)
    if len(found) < 2:
        there = f"all images with a split are in {found[0]}" if found else "none of the images has a split"
        raise ValueError(
            f"{there}, so nothing can leak; give a Learner with a validation set, folders called train and valid, "
            "{'train': folder, 'valid': folder}, or a table with a column split"
        )
