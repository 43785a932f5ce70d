from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from imgclean.dataset.items import Items
from imgclean.dataset.sources import read_source
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


def test_columns_are_found_by_their_usual_names_or_by_those_given():
    table = pd.DataFrame({"File_Name": ["1.jpg"], "Class": ["cat"], "Subset": ["val"], "x": [1]})
    items = items_of_table(table)
    assert (items.paths[0].name, items.labels, items.splits) == ("1.jpg", ("cat",), ("valid",))
    items = items_of_table(table, columns={"label": "x"})
    assert items.labels == ("1",) and items.splits == ("valid",)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (None, "columns a, b; give columns="),
        ({"name": "c"}, "no column 'c'; the table has a, b"),
        ({"file": "a"}, "key 'file'; give some of name, label"),
    ],
)
def test_what_is_no_column_is_said(columns, message):
    with pytest.raises(ValueError, match=message):
        items_of_table(pd.DataFrame([[1, 2]], columns=["a", "b"]), columns=columns)
    with pytest.raises(ValueError, match="no rows"):
        items_of_table(pd.DataFrame({"name": []}))


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_files_of_tables_give_back_every_column_as_it_was(tmp_path, ending):
    table = pd.DataFrame(
        {
            "path": ["a.jpg", "007", "c.jpg"],
            "label": ["007", "NA", ""],
            "width": [1, 2, 3],
            "note": ["x", None, "y"],
        }
    )
    file = tmp_path / f"all.{ending}"
    if ending == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed; pip install pyarrow")
        table.to_parquet(file)
    else:
        table.to_csv(file, sep="," if ending == "csv" else "\t", index=False)
    items = read_source(file)
    assert items.labels == ("007", "NA", None) and items.paths[1] == tmp_path / "007"
    out = replace(items, labels=("NA", "NA", None)).subset([2, 0]).as_source()
    assert list(out.columns) == list(table.columns) and list(out.width) == [3, 1]
    assert list(out.label) == ["", "NA"] and list(out.path) == ["c.jpg", "a.jpg"]


def test_new_labels_are_spelled_as_the_column_spells_them():
    names = {"name": ["a", "b", "c"]}
    for column, new in [([3, 4, 4], 4), (pd.Categorical(["x", "y", "y"]), "y")]:
        table = pd.DataFrame(names | {"label": column}, index=[7, 7, 9])
        items = read_source(table)
        out = replace(items, labels=(str(new), *items.labels[1:])).subset([0, 2]).as_source()
        assert out.label.dtype == table.label.dtype and list(out.label) == [new, new]
        assert list(out.index) == [7, 9] and table.label.iloc[0] != new
    out = replace(items, labels=("z", "y", "y")).as_source()
    assert list(out.label) == ["z", "y", "y"] and "z" in out.label.cat.categories
    out = replace(read_source(pd.DataFrame(names)), labels=("x", None, None)).as_source()
    assert out.label.iloc[0] == "x"


def test_flags_of_is_valid_are_read_as_people_write_them():
    table = pd.DataFrame({"name": list("1234"), "is_valid": ["yes", "No", 1, ""]})
    assert items_of_table(table).splits == ("valid", "train", "valid", "train")
    with pytest.raises(ValueError, match="is_valid holds 'maybe'; give True or False"):
        items_of_table(pd.DataFrame({"name": ["1"], "is_valid": ["maybe"]}))
    spaced = pd.DataFrame({"name": ["1", "2"], "split": [" val", "train "]})
    assert items_of_table(spaced).splits == ("valid", "train")
