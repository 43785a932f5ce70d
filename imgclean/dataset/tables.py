"""`Items` from a table of names, labels and splits, and the table's rows back, with new labels in their column."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .folders import split_name
from .items import Items, root_of
from .origin import Origin, of_source, rows_of

if TYPE_CHECKING:
    import pandas as pd

FLAGS = dict.fromkeys(("true", "1", "1.0", "yes"), "valid") | dict.fromkeys(
    ("false", "0", "0.0", "no", ""), "train"
)
# What people call them, the commonest first.
USUAL = {
    "name": (
        "name", "path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img",
        "img_path", "fname",
    ),
    "label": ("label", "labels", "class", "class_name", "category", "target", "tags"),
    "split": ("split", "set", "subset", "partition"),
    "is_valid": ("is_valid",),
}  # fmt: skip
ENDINGS = (".csv", ".tsv", ".parquet")


class Table(Origin):
    "A DataFrame, or a file of one"

    def __init__(self, source: pd.DataFrame, labels: tuple[str | None, ...], column: str | None):
        super().__init__(source, labels)
        self.column = column  # of the labels

    def rebuild(self, items: Items) -> pd.DataFrame:
        "The rows that stay, with every column they had; a column `label` is added where labels are new and there is none."
        rows, changed = list(rows_of(items)), self.relabeled(items)
        df = self.source.iloc[rows].copy()
        if changed and self.column is None:
            df["label"] = list(items.labels)
        elif changed:
            df[self.column] = _relabelled(self.source[self.column], rows, changed)
        return df


def items_of_table(
    table: pd.DataFrame | str | os.PathLike,  # or a csv, tsv or parquet file
    root: str | os.PathLike | None = None,  # what names are relative to; default: the file's folder
    columns: Mapping[str, str]
    | None = None,  # "name", "label", "split" or "is_valid" -> column; default: as usual
) -> Items:
    """The images of a table's rows, in their order.

    Raises `ValueError` where no column holds their names, or one of `columns` is not there.
    """
    if isinstance(table, (str, os.PathLike)):
        root = Path(table).parent if root is None else root
        found, table = _read(Path(table), columns)
    else:
        found = find_columns(table.columns, columns)
    if not len(table):
        raise ValueError("the table has no rows; give one with a row for each image")
    top = Path(root if root is not None else ".")
    paths = tuple(top / _name(value, found["name"], row) for row, value in enumerate(table[found["name"]]))
    labels = texts(table[found["label"]]) if "label" in found else [None] * len(table)
    if "split" in found:
        splits = [split_name(name) for name in texts(table[found["split"]])]
    elif "is_valid" in found:
        splits = [_side(flag) for flag in table[found["is_valid"]]]
    else:
        splits = [None] * len(table)
    items = Items(paths, tuple(labels), tuple(splits), root_of(paths, top))
    return of_source(items, Table(table, items.labels, found.get("label")))


def find_columns(
    there: Any,  # names of columns
    wanted: Mapping[str, str] | None = None,  # "name", "label", "split" or "is_valid" -> column
) -> dict[str, str]:
    "The column of each of `USUAL` that there is: the one that is wanted, else the first by its usual names."
    unknown = next((key for key in wanted or {} if key not in USUAL), None)
    if unknown is not None:
        raise ValueError(f"columns has the key {unknown!r}; give some of {', '.join(USUAL)}")
    by_name = {str(column).strip().lower(): column for column in reversed(list(there))}
    found = {}
    for key, names in USUAL.items():
        column = next((by_name[name] for name in names if name in by_name), None)
        column = (wanted or {}).get(key, column)
        if column is not None:
            found[key] = column
    listed = ", ".join(map(str, there))
    missing = next((column for column in found.values() if column not in list(there)), None)
    if missing is not None:
        raise ValueError(f"there is no column {missing!r}; the table has {listed}")
    twice = next((column for column in found.values() if list(there).count(column) > 1), None)
    if twice is not None:
        raise ValueError(f"several columns are called {twice!r}; rename all but one")
    if "name" not in found:
        raise ValueError(
            f"the table has the columns {listed}; give columns={{'name': …}}, the one that holds the images' files"
        )
    return found


def _read(path: Path, columns: Mapping[str, str] | None) -> tuple[dict[str, str], pd.DataFrame]:
    import pandas as pd

    if path.suffix.lower() == ".parquet":
        try:
            table = pd.read_parquet(path)
        except ImportError:
            raise ImportError(f"{str(path)!r} needs pyarrow; pip install pyarrow") from None
        except FileNotFoundError:
            raise
        except (ValueError, OSError) as err:
            raise ValueError(f"{str(path)!r} is no parquet file or is damaged ({err})") from None
        return find_columns(table.columns, columns), table
    sep = "\t" if path.suffix.lower() == ".tsv" else ","
    how = dict(sep=sep, index_col=False)
    try:
        return _parsed(path, columns, how)
    except UnicodeDecodeError:  # names of files need not be UTF-8, and `cleaned.csv` holds them as they are
        # Not in pyarrow, which refuses such texts.
        with pd.option_context("mode.string_storage", "python"):
            return _parsed(path, columns, how | {"encoding_errors": "surrogateescape"})
    except (pd.errors.EmptyDataError, pd.errors.ParserError, pd.errors.ParserWarning) as err:
        raise ValueError(
            f"{str(path)!r} is no table with a line of names and as many fields in each row ({str(err).strip()}); "
            "put what holds commas into quotes"
        ) from None


def _parsed(path: Path, columns: Mapping[str, str] | None, how: dict) -> tuple[dict[str, str], pd.DataFrame]:
    import pandas as pd

    found = find_columns(pd.read_csv(path, nrows=0, **how).columns, columns)
    with warnings.catch_warnings():
        # Of rows with more fields than names it would drop the last, whichever that is.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        table = pd.read_csv(path, **how)
    cells = [column for key, column in found.items() if key != "is_valid"]
    # Names and labels such as "NA" and "007" are texts, which pandas' own guesses would not leave as they are.
    plain = pd.read_csv(path, usecols=cells, dtype=str, keep_default_na=False, **how)
    for column in cells:
        table[column] = plain[column]
    return found, table


def _relabelled(column: pd.Series, rows: list[int], changed: dict[int, str]) -> Any:
    "The values of `rows`, the new ones as the column spells them elsewhere: 3 for '3' among integers."
    import pandas as pd

    spelled = {str(value): value for value in column.unique()}
    values = list(column)
    for row, label in changed.items():
        values[row] = spelled.get(label, label)
    kept = [values[row] for row in rows]
    if isinstance(column.dtype, pd.CategoricalDtype):
        more = [label for label in dict.fromkeys(changed.values()) if label not in spelled]
        known = list(column.cat.categories)
        return pd.Categorical(
            kept, [*known, *(m for m in more if m not in known)], ordered=column.cat.ordered
        )
    return kept


def _name(value: Any, column: str, row: int) -> str:
    "The name of a file in a cell."
    if _is_empty(value) or not isinstance(value, (str, os.PathLike, Number)):
        what = "nothing" if _is_empty(value) else f"a {type(value).__name__}"
        raise ValueError(
            f"the column {column!r} holds {what} in row {row}, where a file's name should be; "
            "take such rows out, or give columns={'name': …}, the one that holds the images' files"
        )
    if "\0" in (name := os.fspath(value) if isinstance(value, os.PathLike) else str(value)):
        raise ValueError(f"the column {column!r} holds {name!r} in row {row}, which no file can be called")
    return name


def _side(flag) -> str:
    side = FLAGS.get(str(flag).strip().lower())
    if side is None:
        raise ValueError(f"is_valid holds {flag!r}; give True or False")
    return side


def texts(column: Iterable) -> list[str | None]:
    "Cells as texts, empty ones as None."
    return [None if _is_empty(value) else str(value) for value in column]


def _is_empty(value: Any) -> bool:
    if value is None or isinstance(value, str):
        return not value
    try:
        return bool(value != value)  # NaN and NaT
    except (TypeError, ValueError):  # pandas.NA, which cannot be asked; and arrays
        return type(value).__name__ == "NAType"
