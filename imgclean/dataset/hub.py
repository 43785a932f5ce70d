"""`Items` from a Hugging Face `datasets.Dataset`, and fewer of its rows back. Knows it by what it has; imports nothing of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .items import Items, root_of
from .kept import Contents
from .origin import Origin, of_source, rows_of
from .tables import USUAL

NUMBERS = {"int": int, "uint": int, "float": float}  # how the names of their types begin


class Hub(Origin):
    "A `datasets.Dataset`"

    def __init__(self, source: Any, labels: tuple[str | None, ...], column: str | None):
        super().__init__(source, labels)
        self.column = column  # of the labels

    def rebuild(self, items: Items) -> Any:
        "The rows that stay, by `select`; names that are new become new classes."
        dataset, changed = self.source, self.relabeled(items)
        if changed:
            dataset = self._relabelled(changed)
        return dataset.select(list(rows_of(items)))

    def _relabelled(self, changed: dict[int, str]) -> Any:
        dataset, column = self.source, self.column
        if column is None:
            if "label" in dataset.column_names:
                raise ValueError("the column 'label' holds no labels; say which does by columns={'label': …}")
            labels = [changed.get(row, label) for row, label in enumerate(self.labels)]
            return dataset.add_column("label", labels)
        feature, order = dataset.features[column], dataset.column_names
        values = list(dataset.with_format(None)[column])
        if _kind(feature) == "ClassLabel":
            names = [*feature.names, *sorted(set(changed.values()).difference(feature.names))]
            feature = type(feature)(names=names)
            changed = {row: names.index(label) for row, label in changed.items()}
        else:
            spelled = {str(value): value for value in values}
            changed = {
                row: spelled[label] if label in spelled else _spelled(label, feature, column)
                for row, label in changed.items()
            }
        values = [changed.get(row, value) for row, value in enumerate(values)]
        bare = dataset.remove_columns(column)
        return bare.add_column(column, values, feature=feature).select_columns(order)


def _spelled(label: str, feature: Any, column: str) -> Any:
    "`label` as a value of a column that does not hold it yet."
    kind = next((kind for name, kind in NUMBERS.items() if feature.dtype.startswith(name)), str)
    try:
        value = kind(label)
    except ValueError:
        value = None
    if str(value) != label or ("string" not in feature.dtype and kind is str):
        raise ValueError(
            f"{label!r} cannot be in the column {column!r}, which holds {feature.dtype}; make that a column of texts first"
        )
    return value


def is_hub(source: Any) -> bool:
    "Whether `source` is a `datasets.Dataset`."
    return all(hasattr(source, name) for name in ("features", "column_names", "select", "cast_column"))


def items_of_hub(
    dataset: Any,
    folder: str | os.PathLike | None = None,  # for images that are no files
    columns: Mapping[str, str] | None = None,  # "name" and "label" -> column; default: by their types
) -> Items:
    """The images of a `datasets.Dataset`: their files, else their own bytes, written as they are, see `kept_folder`.

    Raises `ValueError` where no column holds images.
    """
    if not len(dataset):
        raise ValueError("the Dataset has no rows; give one that holds images")
    image, label = _columns(dataset, columns or {})
    plain = dataset.with_format(None)  # neither tensors nor arrays
    raw = plain.select_columns([image]).cast_column(image, type(dataset.features[image])(decode=False))
    paths = _files(raw, image)
    if paths is None:
        paths = Contents(lambda: (_bytes(k, row[image]) for k, row in enumerate(raw))).write(folder)
        root = paths[0].parent
    else:
        root = root_of(paths, os.path.commonpath([p.parent for p in paths]))
    labels = _labels(plain, label)
    items = Items(tuple(paths), labels, (None,) * len(paths), Path(root))
    return of_source(items, Hub(dataset, labels, label))


def _columns(dataset: Any, wanted: Mapping[str, str]) -> tuple[str, str | None]:
    unknown = next((key for key in wanted if key not in ("name", "label")), None)
    if unknown is not None:
        raise ValueError(f"columns has the key {unknown!r}; of a Dataset give name and label")
    missing = next((name for name in wanted.values() if name not in dataset.column_names), None)
    there = ", ".join(dataset.column_names)
    if missing is not None:
        raise ValueError(f"there is no column {missing!r}; the Dataset has {there}")
    kinds = {name: _kind(dataset.features[name]) for name in dataset.column_names}
    image = wanted.get("name") or next((name for name, kind in kinds.items() if kind == "Image"), None)
    if image is None or kinds[image] != "Image":
        raise ValueError(
            f"no column of type Image is in the Dataset, which has {there}; cast the one of the images"
        )
    usual = [name for name in USUAL["label"] if kinds.get(name) == "Value"]
    classes = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    return image, wanted.get("label") or next(iter([*classes, *usual]), None)


def _kind(feature: Any) -> str:
    return type(feature).__name__


def _labels(dataset: Any, column: str | None) -> tuple[str | None, ...]:
    if column is None:
        return (None,) * len(dataset)
    names = getattr(dataset.features[column], "names", None)
    values = dataset[column]
    if names is not None:
        return tuple(None if value is None or value < 0 else names[value] for value in values)
    return tuple(None if value is None or value == "" else str(value) for value in values)


def _files(raw: Any, column: str) -> list[Path] | None:
    "The file of each image, where all of them are files and none is held as bytes."
    paths = []
    for row in raw:
        image = row[column]
        if image is None or image["bytes"] is not None or not os.path.isfile(image["path"] or ""):
            return None
        paths.append(Path(image["path"]))
    return paths


def _bytes(row: int, image: dict | None) -> bytes:
    if image is None:
        return b""  # a file that holds nothing: unreadable, and said to be
    if image["bytes"] is not None:
        return image["bytes"]
    if os.path.isfile(image["path"] or ""):
        return Path(image["path"]).read_bytes()
    raise ValueError(
        f"row {row} of the Dataset has neither bytes nor a file ({image['path']}); download it first"
    )
