"""Grades, suggestions and filters of groups."""

import shutil
from dataclasses import replace
from typing import NamedTuple

import pytest

from imgclean.dataset.items import Items
from imgclean.find.groups import Group, Groups, Suspect
from imgclean.find.pairs import Pairs
from imgclean.find.verify import GRADES, Check
from imgclean.review.filters import Filter
from imgclean.review.looks import rank
from imgclean.review.regroup import as_groups
from imgclean.review.session import Review


class Found(NamedTuple):
    "What a review reads of `cascade.Found`"

    pairs: Pairs
    checks: list[Check]


@pytest.fixture
def items(shop):
    shutil.copy(shop / "cat/a.jpg", shop / "cat/e.jpg")
    items = Items.from_folder(shop)  # cat a b c d e, dog a b c d
    return replace(items, splits=("train",) * 5 + ("valid",) * 4)


def look(i, j, grade, what=""):
    return (i, j), Check(0.99, grade, what, None, False)


@pytest.fixture
def review(items):
    looks = dict([
        look(2, 0, "exact"), look(4, 2, "exact"), look(8, 6, "edited", "cropped to 72 %"),
        look(7, 3, "edited", "cropped to 50 %, mirrored"), look(5, 1, "edited", "mirrored"),
    ])  # fmt: skip
    pairs = Pairs.of([i for i, _ in looks], [j for _, j in looks], [0.9] * len(looks))
    groups = Groups(
        [
            Group((0, 2, 4), 1.0, (1.0, 1.0, 1.0), "largest"),
            Group((8, 6), 0.9, (1.0, 0.9), "sharpest"),
            Group((3, 7), 0.8, (1.0, 0.8)),
            Group((5, 1), None, protected=(5,)),
        ],
        pairs,
    )
    groups.found = Found(pairs, [looks[i, j] for i, j, _ in pairs])
    return Review(items, groups)


def test_what_was_done_to_a_copy_is_said_from_the_keepers_side(review):
    said = [[(look.grade, look.what) for look in review.looks(g)] for g in range(4)]
    assert said == [
        [("exact", ""), ("exact", "")],  # 4 equals 2, which equals the keeper
        [("edited", "cropped to 72 %")],
        [("edited", "shows more: the starred one is 50 % of it, mirrored")],
        [("edited", "mirrored")],
    ]


def onto(matrix, point):
    a, b, c, d, e, f = matrix
    return [a * point[0] + c * point[1] + e, b * point[0] + d * point[1] + f]


def test_pictures_are_laid_on_each_other_as_they_were_checked(items):
    half, mirrored = ((0.5, 0.0, 10.0), (0.0, 0.5, 20.0)), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    pairs = Pairs.of([5, 7], [1, 5], [0.9, 0.8])
    groups = Groups([Group((5, 1, 7))], pairs)
    checks = [Check(0.9, "edited", "", half, False), Check(0.9, "edited", "mirrored", mirrored, True)]
    groups.found = Found(pairs, checks)
    review = Review(items, groups)
    assert onto(review.alignment(5, 1, 0), (4, 8)) == pytest.approx([12, 24])
    assert onto(review.alignment(1, 5, 0), (12, 24)) == pytest.approx([4, 8])
    width = items.size(5)[0]  # (7, 5): item 5, mirrored, lies on item 7
    assert onto(review.alignment(7, 5, 0), (0, 3)) == pytest.approx([width, 3])
    assert onto(review.alignment(5, 7, 0), (width, 3)) == pytest.approx([0, 3])
    by_keeper = onto(review.alignment(5, 1, 0), (4, 8))
    assert onto(review.alignment(7, 1, 0), (4, 8)) == pytest.approx([width - by_keeper[0], by_keeper[1]])
    assert review.alignment(5, 5, 0) == [1, 0, 0, 1, 0, 0]
    assert Review(items, [(1, 3)]).alignment(1, 3, 0) is None
    assert review.grades == list(GRADES) and Review(items, []).grades == ["exact"]


@pytest.mark.parametrize(
    ("of_j", "of_i"),
    [
        ("re-encoded", "re-encoded"),
        ("resized to 50 %", "resized to 200 %"),
        ("rotated by 90° clockwise", "rotated by 90° counterclockwise"),
        ("rotated by 12° counterclockwise, recoloured", "rotated by 12° clockwise, recoloured"),
        ("mirrored, rotated by 90° clockwise", "mirrored, rotated by 90° clockwise"),
        ("rotated by 180°", "rotated by 180°"),
        ("cropped to 72 %, stretched", "shows more: the starred one is 72 % of it, stretched"),
        ("shows more: the first is 72 % of it", "cropped to 72 %"),
        ("framed", "the starred one is framed"),
        ("the first is in black and white", "in black and white"),
        ("in black and white", "the starred one is in black and white"),
        ("blurred", "sharper"),
        ("text or sticker on top", "text or sticker on top"),  # on which of the two, nobody knows
    ],
)
def test_words_are_turned_where_the_keeper_is_the_later_image(items, of_j, of_i):
    pairs = Pairs.of([5], [1], [0.9])
    groups = Groups([Group((5, 1)), Group((1, 5))], pairs)
    groups.found = Found(pairs, [Check(0.9, "edited", of_j, None, "mirrored" in of_j)])
    forward, turned = (Review(items, groups).looks(g)[0].what for g in (0, 1))
    assert forward == of_j.replace("the first is", "the starred one is") and turned == of_i


def test_a_group_has_its_worst_grade(review, items):
    assert [review.grade(g) for g in range(4)] == ["exact", "edited", "edited", "edited"]
    unseen = Review(items, [(1, 3), (1,), (0, 2), (0, 2, 3)])
    assert [unseen.grade(g) for g in range(4)] == [
        None,
        None,
        "exact",
        None,
    ]  # equal files need no second look
    assert [rank(grade) for grade in (*GRADES, None)] == [0, 1, 2, 3, 4, 5]


def test_suggestions_have_reasons(review):
    said = {s.item: (s.mark, s.reason) for s in review.suggestions()}
    assert said == {
        0: ("keep", "largest"), 2: ("delete", "exact"), 4: ("delete", "exact"),
        8: ("keep", "sharpest"), 6: ("delete", "edited: cropped to 72 %"),
        3: ("keep", "the first of the group"), 7: ("delete", "edited: shows more: the starred one is 50 % of it, mirrored"),
        5: ("keep", "protected"), 1: ("delete", "edited: mirrored"),
    }  # fmt: skip
    assert review.decisions == {}
    assert {s.group for s in review.suggestions(grade="exact")} == {0}
    assert [s.item for s in review.suggestions([1])] == [8, 6]


def test_all_exact_ones_are_accepted_as_one_step(review):
    assert review.accept_suggestions(grade="exact") == 3
    assert (review.kept, review.deleted) == ([0], [2, 4])
    assert review.accept_suggestions(grade="exact") == 0
    review.undo()
    assert review.decisions == {}


def test_what_a_person_decided_stands(review):
    review.relabel([5, 7], "cat")  # the labels of the groups agree
    review.mark(2, "keep")
    review.mark(8, "delete")
    review.mark([3, 7], "delete")
    review.accept_suggestions()
    assert (review.kept, review.deleted) == ([2, 5, 6], [0, 1, 3, 4, 7, 8])
    said = review.suggestions()
    assert said == []


def test_another_picture_is_suggested_to_be_kept(items):
    review = Review(items, [Group((1, 3, 5))])
    review.not_duplicate(5, 0)
    review.mark(5, None)
    said = {s.item: (s.mark, s.reason) for s in review.suggestions()}
    assert said[5] == ("keep", "no other image of the group shows this picture") and said[3][0] == "delete"


def test_nothing_protected_is_suggested_for_deletion(items):
    review = Review(items, [Group((0, 2, 4), protected=(2, 4)), Group((4, 5))])
    review.relabel(5, "cat")
    review.accept_suggestions()
    assert review.deleted == [0, 5] and review.kept == [2, 4]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"state": "undecided"}, [0, 2, 3]),
        ({"state": "decided"}, [1]),
        ({"label": "dog"}, [1, 2, 3]),
        ({"grade": "exact"}, [0]),
        ({"grade": "similar"}, []),
        ({"min_similarity": 0.9}, [0, 1]),
        ({"max_similarity": 0.9}, [1, 2]),
        ({"leak": True}, [2, 3]),
        ({"clash": True}, [2, 3]),
        ({"clash": True, "state": "decided"}, []),
        ({"sort": "similarity", "reverse": True}, [3, 2, 1, 0]),
        ({"sort": "label"}, [0, 2, 1, 3]),
        ({"sort": "size"}, [0, 1, 2, 3]),
        ({"sort": "grade", "reverse": True}, [3, 2, 1, 0]),
        ({"sort": "clash"}, [2, 3, 0, 1]),
    ],
)
def test_filters(review, fields, expected):
    review.accept(1)
    assert review.select(**fields) == review.select(Filter.of(fields)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"predicted": "dog"}, [0, 3]),
        ({"actual": "cat"}, [0, 1, 3]),
        ({"predicted": "dog", "actual": "cat"}, [0, 3]),
        ({"predicted": "cat", "actual": "cat"}, [1]),
        ({"predicted": "cow"}, []),
        ({"state": "undecided", "predicted": "dog"}, [0]),
        ({"label": "dog"}, [2, 3]),
    ],
)
def test_filters_by_what_a_model_says(items, fields, expected):
    said = [Suspect(k, 0.1, name, "") for k, name in ((0, "dog"), (1, "cat"), (7, "cat"), (2, "dog"))]
    review = Review(items, as_groups(said))
    review.relabel(2, "dog")  # what the dataset says of it is asked for, not what a person does
    assert review.select(**fields) == expected


def test_a_clash_is_over_when_the_label_is_corrected(review):
    review.relabel(3, "dog")
    assert not review.is_clash(2) and review.is_clash(3) and review.is_leak(2)


@pytest.mark.parametrize(
    "fields", [{"state": "maybe"}, {"sort": "beauty"}, {"colour": "red"}, {"min_similarity": "high"}]
)
def test_filters_that_are_none_are_refused(review, fields):
    with pytest.raises(ValueError):
        review.select(**fields)
