from pathlib import Path

import pandas as pd
import pytest

from imgclean.dataset.items import Items
from imgclean.dataset.tables import items_of_table


def test_a_table_is_what_items_write(tmp_path):
    items = Items((tmp_path / "a/1.jpg", tmp_path / "007.jpg"), ("NA", None), ("train", "valid"), tmp_path)
    assert items_of_table(items.df(), tmp_path) == items
    items.df().to_csv(tmp_path / "all.csv", index=False)
    assert items_of_table(tmp_path / "all.csv") == items


def test_is_valid_is_a_split_and_names_of_splits_are_those_of_folders(tmp_path):
    table = pd.DataFrame({"name": ["1.jpg", "2.jpg"], "is_valid": [True, False]})
    assert items_of_table(table).splits == ("valid", "train") and items_of_table(table).root == Path(".")
    table.to_csv(tmp_path / "all.csv")
    assert items_of_table(tmp_path / "all.csv").splits == ("valid", "train")
    table = pd.DataFrame({"name": ["1.jpg", "2.jpg", "3.jpg"], "split": ["Validation", "test", None]})
    assert items_of_table(table).splits == ("valid", "test", None)


@pytest.mark.parametrize("columns", [["name", "label"], ["split", "label"]])
def test_tables_without_names_or_splits_are_refused(columns):
    with pytest.raises(ValueError, match=f"columns {columns[0]}, {columns[1]}; give name, split"):
        items_of_table(pd.DataFrame([["a", "b"]], columns=columns))


def test_flags_of_is_valid_are_read_as_people_write_them():
    table = pd.DataFrame({"name": list("1234"), "is_valid": ["yes", "No", 1, ""]})
    assert items_of_table(table).splits == ("valid", "train", "valid", "train")
    with pytest.raises(ValueError, match="is_valid holds 'maybe'; give True or False"):
        items_of_table(pd.DataFrame({"name": ["1"], "is_valid": ["maybe"]}))
    spaced = pd.DataFrame({"name": ["1", "2"], "split": [" val", "train "]})
    assert items_of_table(spaced).splits == ("valid", "train")
