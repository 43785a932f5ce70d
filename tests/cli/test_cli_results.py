"""What is told of a pair: said of the copy, beside the image to keep, whichever of the two comes first in the folder."""

import json

import pytest
from pages import data_of
from pictures import write_pictures

from imgclean.cascade import Found
from imgclean.cli.results import as_json, as_table, print_groups, print_leaks, print_summary
from imgclean.dataset.items import Items
from imgclean.find.groups import Group, Groups
from imgclean.find.pairs import Pairs
from imgclean.find.verify import Check
from imgclean.leaks import Leaks
from imgclean.review.report import write_report

OTHER_WAY = "shows more: the other one is 50 % of it"


def found(folder, keeper, labels=("cat", "cat"), splits=(None, None)):
    "Two images, of which the first in the folder is half of the second."
    write_pictures(folder, ["a.jpg", "b.jpg"], [1, 1])
    ds = Items((folder / "a.jpg", folder / "b.jpg"), labels, splits, folder)
    pairs = Pairs.of([1], [0], [0.99])
    check = Check(0.99, "edited", "cropped to 50 %", None, False)
    groups = Groups([Group((keeper, 1 - keeper), 0.99, (1.0, 0.9), "most pixels")], pairs, {})
    groups.found = Found(pairs, pairs, {(1, 0): (check, "neighbours")}, 0.5, None, {})
    return ds, groups


@pytest.mark.parametrize(
    ("keeper", "edited", "what"), [(1, "a.jpg", "cropped to 50 %"), (0, "b.jpg", OTHER_WAY)]
)
def test_the_edit_is_that_of_the_copy(tmp_path, capsys, keeper, edited, what):
    ds, groups = found(tmp_path, keeper)
    (pair,) = json.loads(as_json(ds, groups))["pairs"]
    assert (pair["edited"], pair["what"], pair["grade"]) == (edited, what, "edited")
    row = as_table(ds, groups).iloc[1]
    assert (row["name"], row["what"], row["grade"]) == (edited, what, "edited")
    print_groups(ds, groups)
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if edited in line]
    assert f"edited: {what}" in line and not any("label" in line for line in lines)
    assert any("stays: most pixels" in line for line in lines)


def test_of_a_bucket_all_images_are_counted(tmp_path):
    ds, groups = found(tmp_path, 0)
    for groups.looked_at, n in ((None, 2), (60, 60)):
        page = data_of(write_report(ds, groups, tmp_path / "r.html"))
        assert json.loads(as_json(ds, groups))["images"] == page["looked_at"] == n and page["images"] == 2


@pytest.mark.parametrize(
    ("computed", "told"),
    [
        (None, "(4 images/s)"),
        (2, "(4 images/s)"),
        (1, "(2 images/s; 1 known, or equal files)"),
        (0, "(all were known)"),
    ],
)
def test_images_in_the_cache_make_no_run_look_fast(tmp_path, capsys, computed, told):
    ds, groups = found(tmp_path, 0)
    groups.seconds, groups.computed = {"look": 0.5, "check": 2.25}, computed
    print_summary(ds, groups)
    line = capsys.readouterr().err.splitlines()[0]
    assert f"1 image could go; looked 0.5 s {told}, looked again 2.2 s; " in line
    assert float(line.split("; ")[-1].removesuffix(" s in all")) > 0
    groups.looked_at = 60  # by others, perhaps on another day
    print_summary(ds, groups)
    assert " in all" not in capsys.readouterr().err


def test_labels_are_told_where_they_differ(tmp_path, capsys):
    print_groups(*found(tmp_path, 0, ("cat", "dog")))
    lines = capsys.readouterr().out.splitlines()
    assert any("a.jpg" in line and "cat" in line for line in lines)
    assert any("b.jpg" in line and "dog" in line for line in lines)


@pytest.mark.parametrize(("labels", "told"), [(("cat", "cat"), False), (("cat", "dog"), True)])
def test_leaks_name_both_images(tmp_path, capsys, labels, told):
    print_leaks(Leaks(*found(tmp_path, 0, labels, ("train", "valid"))))
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if "b.jpg" in line]
    assert line.index("b.jpg") < line.index("a.jpg") < line.index(f"edited: {OTHER_WAY}")
    assert ("dog / cat" in line) is told
    (head,) = [line for line in lines if "image of valid" in line]
    assert "its copy in train" in head and ("where they differ" in head) is told
