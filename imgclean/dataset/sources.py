"""`Items` with splits from several folders, or from a table with a column for them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .folders import split_name
from .items import Items, root_of

if TYPE_CHECKING:
    import pandas as pd

FLAGS = dict.fromkeys(("true", "1", "1.0", "yes"), "valid") | dict.fromkeys(
    ("false", "0", "0.0", "no", ""), "train"
)
COLUMNS = "name, split (train, valid or test) or is_valid, and, where there is one, label"


def items_of_folders(
    folders: Mapping[str, str | os.PathLike],  # split -> folder
) -> Items:
    """Every image of each folder, with the folder's key as its split; labels as `Items.from_folder` finds them in each.

    Raises what that raises, and `ValueError` where a folder lies in another one.
    """
    parts = []
    for split, folder in folders.items():
        items = Items.from_folder(folder)
        parts.append(replace(items, splits=(split_name(str(split)),) * len(items)))
    paths = tuple(path for items in parts for path in items.paths)
    if len(set(map(os.path.realpath, paths))) < len(paths):
        raise ValueError(
            f"the folders {', '.join(str(f) for f in folders.values())} share files; give folders that lie apart"
        )
    return Items(
        paths,
        tuple(label for items in parts for label in items.labels),
        tuple(split for items in parts for split in items.splits),
        root_of(paths, parts[0].root),
        tuple(bad for items in parts for bad in items.unreadable),
    )


def items_of_table(
    table: pd.DataFrame | str | os.PathLike,  # or the path of a csv
    root: str | os.PathLike | None = None,  # what names are relative to; default: the csv's folder
) -> Items:
    """The images of a table's rows, in their order: the columns `name`, `label` and `split` of `Items.df`, or `is_valid`.

    Raises `ValueError` where a column is missing.
    """
    if isinstance(table, (str, os.PathLike)):
        import pandas as pd

        root = Path(table).parent if root is None else root
        # Names and labels such as "NA" and "007" are texts.
        table = pd.read_csv(table, dtype={"name": str, "label": str, "split": str}, keep_default_na=False)
    columns = set(table.columns)
    if "name" not in columns or not columns & {"split", "is_valid"}:
        raise ValueError(f"the table has the columns {', '.join(map(str, table.columns))}; give {COLUMNS}")
    top = Path(root if root is not None else ".")
    labels = _texts(table["label"]) if "label" in columns else [None] * len(table)
    if "split" in columns:
        splits = [split_name(name) for name in _texts(table["split"])]
    else:
        splits = [_side(flag) for flag in table["is_valid"]]
    return Items(tuple(top / str(name) for name in table["name"]), tuple(labels), tuple(splits), top)


def _side(flag) -> str:
    side = FLAGS.get(str(flag).strip().lower())
    if side is None:
        raise ValueError(f"is_valid holds {flag!r}; give True or False")
    return side


def _texts(column) -> list[str | None]:
    "Cells as texts, empty ones as None."
    return [None if value is None or value != value or value == "" else str(value) for value in column]
