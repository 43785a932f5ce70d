"""`Items` from torchvision's datasets, and fewer of their rows back. Knows them by what they have; imports neither until then."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from .items import Items, root_of
from .kept import Contents
from .origin import Origin, of_source, rows_of

if TYPE_CHECKING:
    from torch.utils.data import Subset


def is_map_style(source: Any) -> bool:
    "Whether `source` is read by index and tells how many there are, as torch's datasets do."
    return hasattr(type(source), "__getitem__") and hasattr(type(source), "__len__")


class MapStyle(Origin):
    "A dataset of (picture, target) by index"

    def rebuild(self, items: Items) -> Subset:
        "A `torch.utils.data.Subset` of the rows that stay; new labels by way of `Relabelled`, the source stays as it is."
        from torch.utils.data import Subset

        changed = self.relabeled(items)
        whole = Relabelled(self.source, changed) if changed else self.source
        return Subset(whole, list(rows_of(items)))


class Relabelled:
    "A dataset with other classes for some of its rows: `labels`, row -> name; names that are new become new classes"

    def __init__(self, dataset: Any, labels: dict[int, str]):
        self.dataset = dataset
        names = _classes(dataset)
        if names is None:
            wrong = next((label for label in labels.values() if not _is_integer(label)), None)
            if wrong is not None:
                raise ValueError(f"the dataset has no classes, so {wrong!r} cannot be one; give a number")
            self.new = {row: int(label) for row, label in labels.items()}
        else:
            self.classes = [*names, *sorted(set(labels.values()).difference(names))]
            self.class_to_idx = {name: k for k, name in enumerate(self.classes)}
            self.new = {row: self.class_to_idx[label] for row, label in labels.items()}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> tuple:
        image, target = self.dataset[row]
        if row in self.new:
            base, _ = _unwrapped(self.dataset)
            transform = getattr(base, "target_transform", None)
            target = transform(self.new[row]) if transform else self.new[row]
        return image, target


def items_of_map_style(dataset: Any, folder: str | os.PathLike | None = None) -> Items:
    """The images of a torchvision dataset, or of a `Subset` of one, labelled by its classes.

    Those in memory are written as PNG, see `kept_folder`. Raises `TypeError` for a dataset of other things.
    """
    if not len(dataset):
        raise ValueError(f"the {type(dataset).__name__} is empty; give one that holds images")
    base, rows = _unwrapped(dataset)
    samples = getattr(base, "samples", None)
    if samples and isinstance(samples[0], (tuple, list)) and isinstance(samples[0][0], (str, os.PathLike)):
        paths = [Path(samples[row][0]) for row in rows]
        targets = [samples[row][1] for row in rows]
        root = root_of(paths, getattr(base, "root", None) or paths[0].parent)
    else:
        paths, targets = _written(base, rows, folder)
        root = paths[0].parent
    names = _classes(dataset)
    labels = tuple(_label(_target(dataset, k, target), names) for k, target in enumerate(targets))
    items = Items(tuple(paths), labels, (None,) * len(paths), root)
    return of_source(items, MapStyle(dataset, labels))


def _written(base: Any, rows: Sequence[int], folder) -> tuple[list[Path], list]:
    bare = copy.copy(base)
    for name in ("transforms", "transform", "target_transform"):
        if getattr(bare, name, None) is not None:
            setattr(bare, name, None)
    targets = []

    def images() -> Iterator[Image.Image]:
        targets.clear()
        for row in rows:
            sample = bare[row]
            image, target = (
                sample if isinstance(sample, (tuple, list)) and len(sample) == 2 else (sample, None)
            )
            if not isinstance(image, Image.Image):
                raise TypeError(
                    f"item {row} of the {type(base).__name__} is a {type(image).__name__}, not a PIL image; "
                    "give a dataset of (picture, target), or the folder of the images"
                )
            targets.append(target)
            yield image

    return Contents(images).write(folder), targets


def _unwrapped(dataset: Any) -> tuple[Any, Sequence[int]]:
    "What lies below torch's `Subset`s and our new labels, and the rows of it."
    rows: Sequence[int] = range(len(dataset))
    for part in _layers(dataset):
        if _is_subset(part):
            rows = [int(part.indices[row]) for row in rows]
        dataset = part
    return dataset, rows


def _target(dataset: Any, row: int, target: Any) -> Any:
    "The class of a row: the outermost of the new ones, else `target`."
    for part in _layers(dataset):
        if isinstance(part, Relabelled) and row in part.new:
            return part.new[row]
        row = int(part.indices[row]) if _is_subset(part) else row
    return target


def _layers(dataset: Any) -> Iterator[Any]:
    yield dataset
    while _is_subset(dataset) or isinstance(dataset, Relabelled):
        dataset = dataset.dataset
        yield dataset


def _is_subset(dataset: Any) -> bool:
    return hasattr(dataset, "indices") and hasattr(dataset, "dataset")


def _classes(dataset: Any) -> list[str] | None:
    for part in _layers(dataset):
        names = getattr(part, "classes", None)
        if isinstance(names, (list, tuple)):
            return list(map(str, names))
    return None


def _label(target: Any, names: list[str] | None) -> str | None:
    try:
        k = target.__index__()
    except (AttributeError, TypeError, ValueError):  # boxes, masks, several
        return target if isinstance(target, str) else None
    return names[k] if names and 0 <= k < len(names) else str(k)


def _is_integer(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True
