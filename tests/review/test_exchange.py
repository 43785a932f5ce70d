"""Decisions as a file: what is written is what is taken, and what was tampered with is refused."""

import json
import os
from dataclasses import replace

import pytest
import systems
from pictures import picture

from imgclean.dataset.items import Items
from imgclean.find.groups import Group
from imgclean.review.exchange import (
    export_decisions,
    items_listed,
    read_decisions,
    reviewed,
    sealed,
    unreadable,
    without_unreadable,
)
from imgclean.review.session import Review


@pytest.fixture
def items(shop):
    return Items.from_folder(shop)


@pytest.fixture
def file(items, shop, tmp_path):
    "Decided: a of cat stays, c of cat and a of dog go; b and d of dog are other pictures; d of cat is a dog."
    review = Review(items, [Group((0, 2, 4)), Group((5, 7))], ledger=tmp_path / "elsewhere.jsonl")
    review.keep_best(0)
    review.keep_all(1)
    review.relabel(3, "dog")
    return export_decisions(review, tmp_path / "decisions.json", shop)


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_all_decisions_arrive(file, items, shop):
    said = read_decisions(file)
    assert said.root == said.dataset == shop and said.rows is None
    with reviewed(said, items) as (review, taken):
        assert review.deleted == [2, 4] and review.kept == [0, 5, 7] and review.relabeled == {3: "dog"}
        assert review.is_apart(5, 7) and list(map(tuple, review.groups)) == [(0, 2, 4), (5, 7)]
        assert (taken.taken, taken.gone, taken.last, taken.differ) == (6, (), (), ())
        assert review.apply(action="quarantine").quarantined == 2
    # They are in the folder's own ledger, where a grid goes on from them.
    assert Review(items, [Group((0, 2, 4))]).deleted == [2, 4]


def test_a_dry_run_touches_nothing(file, items, shop):
    Review(items, [Group((0, 2))]).mark(1, "delete")
    before = tree(shop)
    with reviewed(read_decisions(file), items, dry_run=True) as (review, _):
        assert review.plan()["delete"] == 3  # with the one of the folder's own review
    assert tree(shop) == before


def test_a_dataset_that_is_a_list_is_listed(items, tmp_path, shop):
    review = Review(items.subset([5, 0, 2]), [Group((1, 2))])
    review.keep_best()
    said = read_decisions(export_decisions(review, tmp_path / "d.json"))
    again = items_listed(said, said.root)
    assert said.dataset is None and [p.name for p in again.paths] == ["b.jpg", "a.jpg", "c.jpg"]
    assert again.labels == ("dog", "cat", "cat")
    with reviewed(said, again, dry_run=True) as (review, _):
        assert review.deleted == [2]


def test_names_are_relative_to_the_root_wherever_the_ledger_lies(items, shop, tmp_path):
    (tmp_path / "out").mkdir()
    review = Review(items, [Group((0, 2))], tmp_path / "out")
    review.keep_best()
    assert read_decisions(export_decisions(review, tmp_path / "d.json", shop)).mark == {
        "cat/a.jpg": "keep",
        "cat/c.jpg": "delete",
    }


def test_a_file_that_is_listed_twice(items, tmp_path):
    "One of the two rows goes, as it may in a csv."
    review = Review(items.subset([0, 1, 0]), [Group((0, 2))])
    review.mark(2, "delete")
    said = read_decisions(export_decisions(review, tmp_path / "d.json"))
    again = items_listed(said, said.root)
    assert [p.exists() for p in again.paths] == [True] * 3
    with reviewed(said, again, dry_run=True) as (review, taken):
        assert review.deleted == [2] and taken.taken == 1 and len(review.cleaned()) == 2


def test_moved_files_are_found(file, shop):
    os.rename(shop / "cat/c.jpg", shop / "moved.jpg")
    items = Items.from_folder(shop)
    with reviewed(read_decisions(file), items) as (review, taken):
        assert sorted(items.relpath(k) for k in review.deleted) == ["dog/a.jpg", "moved.jpg"]
        assert taken.gone == ()


def test_changed_files_are_left_alone(file, shop):
    picture(9).save(shop / "dog/a.jpg")
    items = Items.from_folder(shop)
    with reviewed(read_decisions(file), items) as (review, taken):
        assert [items.relpath(k) for k in review.deleted] == ["cat/c.jpg"]
        assert taken.gone == ("dog/a.jpg",) and "1 are about images that are gone" in str(taken)


def test_what_was_to_stay_and_lies_in_the_quarantine_is_gone(file, items, shop, tmp_path):
    other = Review(items, [Group((5, 7))], ledger=tmp_path / "other.jsonl")
    other.mark(5, "delete")
    assert other.apply(action="quarantine").quarantined == 1
    with reviewed(read_decisions(file), Items.from_folder(shop)) as (_, taken):
        assert (taken.gone, taken.done) == (("dog/b.jpg",), ())


def test_the_last_copy_stays_where_the_others_are_gone(file, items, shop):
    (shop / "cat/a.jpg").unlink()  # which was to be kept
    items = Items.from_folder(shop)
    with reviewed(read_decisions(file), items) as (review, taken):
        assert review.deleted == [] and taken.last == ("cat/c.jpg", "dog/a.jpg")
        assert "whose copies are gone" in str(taken)


def test_another_picture_is_no_copy_that_stays(items, shop, tmp_path):
    review = Review(items, [Group((0, 2, 5))], ledger=tmp_path / "l.jsonl")
    review.not_duplicate(5, 0)
    review.keep_only(0, 0)
    file = export_decisions(review, tmp_path / "d.json", shop)
    picture(8).save(shop / "cat/a.jpg")
    with reviewed(read_decisions(file), Items.from_folder(shop)) as (review, taken):
        assert review.deleted == [] and taken.last == ("cat/c.jpg",)


def test_the_folders_own_review_stands(file, items):
    Review(items, [Group((0, 2, 4))]).mark(2, "keep")
    with reviewed(read_decisions(file), items) as (review, taken):
        assert review.deleted == [4] and taken.differ == ("cat/c.jpg",)


def again(review, what, tmp_path, shop):
    "The file of a review after something more was decided."
    what(review)
    return read_decisions(export_decisions(review, tmp_path / "again.json", shop))


def test_a_later_file_changes_what_an_earlier_one_brought_in(items, shop, tmp_path):
    review = Review(items, [Group((0, 2, 4)), Group((5, 7))], ledger=tmp_path / "elsewhere.jsonl")
    first = again(review, lambda r: (r.keep_best(), r.relabel(3, "dog")), tmp_path, shop)
    with reviewed(first, items) as (ours, _):
        assert ours.deleted == [2, 4, 7]
    second = again(review, lambda r: (r.keep_only(2, 0), r.relabel(3, "cow")), tmp_path, shop)
    with reviewed(second, items) as (ours, taken):
        assert ours.deleted == [0, 4, 7] and ours.relabeled == {3: "cow"} and taken.differ == ()
        ours.undo()  # one step
        assert ours.deleted == [2, 4, 7] and ours.relabeled == {3: "dog"}


def test_nothing_is_deleted_that_the_file_keeps(file, items):
    Review(items, [Group((0, 2, 4))]).mark([0, 2], "delete")
    with reviewed(read_decisions(file), items) as (review, taken):
        assert review.deleted == [2, 4] and review.mark_of(0) == "keep" and taken.differ == ()


def test_null_takes_back(file, items):
    with reviewed(read_decisions(file), items):
        pass
    data = json.loads(file.read_text())
    data.pop("checksum")
    data["mark"]["cat/c.jpg"] = data["label"]["cat/d.jpg"] = None
    file.write_text(sealed(data))
    with reviewed(read_decisions(file), items) as (review, taken):
        assert review.deleted == [4] and review.mark_of(2) is None and review.relabeled == {}
        assert taken.differ == () and taken.taken == 6


def test_files_that_are_no_images_are_left_out_as_long_as_they_are_none(shop, tmp_path):
    for name in ("dog/x.jpg", "dog/y.jpg"):
        (shop / name).write_text("no image")
    items = Items.from_folder(shop)
    seen = items.without({8: "no image", 9: "no image"})
    assert unreadable(seen) == ["dog/x.jpg", "dog/y.jpg"]
    said = read_decisions(export_decisions(Review(seen, [(0, 2)]), tmp_path / "d.json", shop))
    picture(1).save(shop / "dog/y.jpg")
    left = without_unreadable(said, items)
    assert [left.relpath(k) for k in range(len(left))][-1] == "dog/y.jpg" and len(left) == 9
    assert [bad.path.name for bad in left.unreadable] == ["x.jpg"]


def test_what_is_protected_is_not_deleted(file, items):
    data = json.loads(file.read_text())
    data.pop("checksum")
    data["groups"][0]["protected"] = ["dog/a.jpg"]
    file.write_text(sealed(data))
    with reviewed(read_decisions(file), items) as (review, taken):
        assert review.deleted == [2] and taken.differ == ("dog/a.jpg",)


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/passwd", "cat/../../x.jpg"])
@pytest.mark.parametrize("place", ["mark", "files", "groups", "protected", "apart", "label"])
def test_names_outside_of_the_folder_are_refused(file, name, place):
    data = json.loads(file.read_text())
    data.pop("checksum")
    data["mark"][name] = "delete"
    if place == "files":
        data["files"][name] = [1, "00"]
    elif place == "groups":
        data["groups"][0]["images"].append(name)
    elif place == "protected":
        data["groups"][0]["protected"].append(name)
    elif place == "apart":
        data["apart"].append([[name], ["cat/a.jpg"]])
    elif place == "label":
        data["label"][name] = "x"
    if place != "mark":
        del data["mark"][name]
    file.write_text(sealed(data))
    with pytest.raises(ValueError, match="outside of"):
        read_decisions(file)


def test_an_edited_file_is_refused(file):
    text = file.read_text()
    assert read_decisions(file)
    file.write_text(text.replace('"cat/c.jpg":"delete"', '"cat/b.jpg":"delete"'))
    with pytest.raises(ValueError, match="edited or cut off"):
        read_decisions(file)
    data = json.loads(text)
    data.pop("checksum")
    file.write_text(json.dumps(data))
    with pytest.raises(ValueError, match="edited or cut off"):
        read_decisions(file)
    file.write_text(sealed(data | {"version": 2}))
    with pytest.raises(ValueError, match="version 2"):
        read_decisions(file)


@pytest.mark.parametrize(
    "change",
    [
        {"mark": {"cat/a.jpg": "burn"}},
        {"mark": ["cat/a.jpg"]},
        {"groups": [{"images": ["cat/a.jpg"]}]},
        {"files": {"cat/a.jpg": 7}},
        {"label": {"cat/a.jpg": 3}},
        {"root": "relative"},
        {"root": None},
        {"rows": [["cat/a.jpg"]], "dataset": None},
        {"dataset": None},
        {"dataset": ""},
        {"dataset": 0},
        {"dataset": "relative"},
        {"label": {"cat/a.jpg": "half a pair: \ud800"}},
        {"mark": {"cat/\ud800.jpg": "keep"}},
        {"mark": {"cat/a\0.jpg": "keep"}},
        {"apart": [["cat/a.jpg"]]},
        {"imgclean": "quarantine"},
    ],
)
def test_what_has_another_form_is_refused(file, change):
    data = json.loads(file.read_text())
    data.pop("checksum")
    file.write_text(sealed(data | change))
    with pytest.raises(ValueError, match="holds no decisions of imgclean"):
        read_decisions(file)


@pytest.mark.parametrize("text", ["", "[]", "7", "{}", '{"imgclean": "decisions"', "[" * 100000])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match="holds no decisions of imgclean"):
        read_decisions(tmp_path / "x.json")


@systems.names_of_bytes
def test_names_that_are_no_utf8_survive(shop, tmp_path):
    picture(1).save(shop / "a.jpg")
    os.rename(shop / "a.jpg", os.fsencode(shop) + b"/\xff\xe9\n'\".jpg")
    items = Items.from_folder(shop)
    odd = next(k for k in range(len(items)) if "\udcff" in items.relpath(k))
    review = Review(items, [Group((odd, (odd + 1) % len(items)))], ledger=tmp_path / "l.jsonl")
    review.mark(odd, "delete")
    with reviewed(read_decisions(export_decisions(review, tmp_path / "d.json", shop)), items) as (again, _):
        assert again.deleted == [odd]


def test_the_checksum_is_that_of_the_text_without_it(file):
    import zlib

    data = json.loads(file.read_text())
    seal = data.pop("checksum")
    text = json.dumps(data, separators=(",", ":"))
    assert seal == format(zlib.crc32(text.encode("ascii")), "08x")


def test_images_outside_of_the_root_are_not_offered(items, tmp_path, shop):
    "A dataset whose root does not hold all of its images cannot be exported by names."
    outside = tmp_path / "out.jpg"
    picture(1).save(outside)
    items = replace(
        items, paths=(*items.paths, outside), labels=(*items.labels, None), splits=(*items.splits, None)
    )
    review = Review(items, [Group((0, 8))])
    with pytest.raises(ValueError, match=r"out\.jpg.*outside of"):
        export_decisions(review, tmp_path / "d.json")
