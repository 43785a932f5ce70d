import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import systems
from PIL import Image

from imgclean.dataset.cleaned import write_csv
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


@pytest.mark.parametrize(
    ("cell", "what"),
    [(None, "nothing"), ("", "nothing"), (float("nan"), "nothing"), (pd.NA, "nothing"), ({"bytes": b""}, "a dict"),
     (b"1.jpg", "a bytes"), (Image.new("L", (1, 1)), "a Image")],
)  # fmt: skip
def test_cells_that_are_no_names_are_refused(cell, what):
    with pytest.raises(
        ValueError, match=f"column 'name' holds {what} in row 1, where a file's name should be"
    ):
        items_of_table(pd.DataFrame({"name": pd.Series(["a.jpg", cell], dtype=object)}))


def test_names_that_no_file_has_and_columns_that_are_there_twice_are_refused():
    with pytest.raises(ValueError, match="in row 0, which no file can be called"):
        items_of_table(pd.DataFrame({"name": ["a\0.jpg"]}))
    with pytest.raises(ValueError, match="several columns are called 'name'"):
        items_of_table(pd.DataFrame([["a.jpg", "b.jpg"]], columns=["name", "name"]))


@pytest.mark.parametrize("empty", [None, pd.NA, float("nan"), ""])
def test_empty_labels_of_every_kind_are_none(empty):
    table = pd.DataFrame({"name": ["a", "b"], "label": pd.Series(["x", empty], dtype=object)})
    assert items_of_table(table).labels == ("x", None)
    assert read_source(["a", "b"], labels=table.label).labels == ("x", None)


@systems.names_of_bytes
def test_names_that_are_no_utf8_come_back_from_the_csv_they_were_written_to(tmp_path):
    names = [
        os.fsdecode(name) for name in (b"caf\xe9/\xe9.jpg", b"a/line\nbreak.jpg", b'a/q"uote, comma.jpg')
    ]
    labels = (os.fsdecode(b"caf\xe9"), "a", "a")
    items = Items(tuple(tmp_path / name for name in names), labels, (None,) * 3, tmp_path)
    back = read_source(write_csv(items, tmp_path))
    assert back == items and list(back.subset([0]).as_source().name) == names[:1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "No columns"),
        ("name,label\nx,y.jpg,cat\n", "put what holds commas into quotes"),
        ("name\na.jpg\nx,y.jpg\n", "put what holds commas into quotes"),
    ],
)
def test_broken_tables_are_refused_with_their_name(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"t.csv' is no table.*{message}"):
        read_source(tmp_path / "t.csv")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed; pip install pyarrow")
    (tmp_path / "t.parquet").write_text(text)
    with pytest.raises(ValueError, match=r"t.parquet' is no parquet file or is damaged"):
        read_source(tmp_path / "t.parquet")
