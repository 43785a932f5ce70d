"""DataFrames that hold the names of files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def frame(rows: Iterable[Sequence], columns: Sequence[str]) -> pd.DataFrame:
    """A DataFrame whose texts are Python's own.

    pandas 3 keeps texts in pyarrow where that is installed, which refuses names of files that are no valid UTF-8.
    """
    import pandas as pd  # here, since importing it takes longer than the whole package

    rows = list(rows)
    values = {name: [row[k] for row in rows] for k, name in enumerate(columns)}
    return pd.DataFrame({name: pd.Series(v, dtype=_dtype(v)) for name, v in values.items()})


def _dtype(values: list) -> type | None:
    return object if not values or any(v is None or isinstance(v, str) for v in values) else None
