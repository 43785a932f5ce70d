import pytest

from imgclean.dataset.frames import frame


def test_names_that_are_no_utf8_are_kept():
    table = frame([("\udcff.jpg", 1, 0.5), (None, 2, None)], ("name", "n", "x"))
    assert table["name"].tolist() == ["\udcff.jpg", None]
    assert table["n"].dtype.kind == "i" and list(table.columns) == ["name", "n", "x"]


def test_numbers_are_numbers():
    table = frame([(1, 0.5), (3, 1.5)], ("n", "x"))
    assert table["x"].sum() == pytest.approx(2) and table["n"].dtype.kind == "i"


def test_no_rows():
    assert list(frame([], ("a", "b")).columns) == ["a", "b"] and not len(frame([], ("a",)))
