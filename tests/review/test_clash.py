"""Copies of one picture under different labels."""

import json

import pytest

from imgclean.dataset.items import Items
from imgclean.find.groups import Group
from imgclean.review.cleaner import ImageCleaner
from imgclean.review.session import Review
from imgclean.review.shown import row

GROUPS = [(0, 1, 4), (2, 5), (3, 6, 7)]  # cat cat dog; cat dog; cat dog dog


@pytest.fixture
def items(shop):
    return Items.from_folder(shop)  # cat a b c d, dog a b c d


@pytest.fixture
def review(items):
    return Review(items, GROUPS)


def test_what_most_say_and_what_all_say(review):
    assert [review.majority_label(g) for g in range(3)] == ["cat", None, "dog"]
    assert [review.clash_in_words(g) for g in range(3)] == [
        "labels differ, most say cat: 2 cat, 1 dog",
        "labels differ and tie: 1 cat, 1 dog",
        "labels differ, most say dog: 2 dog, 1 cat",
    ]
    review.relabel([4], "cat")
    assert review.clash_in_words(0) == "" and not review.is_clash(0) and review.majority_label(0) == "cat"


def test_all_clashes_are_settled_in_one_step_and_ties_stay(review):
    assert review.relabel_to_majority(review.select(clash=True)) == 2
    assert review.relabeled == {3: "dog", 4: "cat"} and review.select(clash=True) == [1]
    assert [json.loads(line)["do"] for line in review.ledger.path.read_text().splitlines()] == ["relabel"]
    assert Review(review.items, GROUPS).relabeled == review.relabeled  # it is on the disk
    review.undo()
    assert review.relabeled == {}
    review.redo()
    assert review.relabeled == {3: "dog", 4: "cat"}


def test_a_tie_is_broken_by_the_image_that_is_given(review):
    assert review.relabel_to_majority(1, 5) == 1 and review.relabeled == {2: "dog"}
    assert review.relabel_to_majority(1, 2) == 0  # they agree now
    review.undo()
    assert review.relabel_to_majority([1], [2, 5]) == 0  # these tie as well
    assert review.relabel_to_majority([0, 1], [2]) == 2 and review.relabeled == {4: "cat", 5: "cat"}


def test_the_datasets_own_label_is_no_change(review):
    review.relabel([0, 1], "dog")
    assert review.relabel_to_majority(0) == 0
    review.relabel([0], "cat")
    review.relabel([4], "cat")  # cat dog cat: back to what the folder says
    assert review.relabel_to_majority(0) == 1 and review.relabeled == {4: "cat"}


def test_another_picture_counts_for_itself_and_unlabelled_images_stay(items):
    review = Review(items, [(0, 1, 4, 5), (2, 3, 6)])
    review.not_duplicate([4, 5], 0)
    assert review.relabel_to_majority(0) == 0 and review.label_of(4) == "dog"
    items = Items(items.paths, ("cat", "cat", "dog", None, *items.labels[4:]), items.splits, items.root)
    review = Review(items, [(0, 1, 2, 3)], ledger=items.root / "other.jsonl")
    assert review.relabel_to_majority(0) == 1 and review.relabeled == {2: "cat"}


def test_pictures_told_apart_may_have_different_labels(review):
    review.not_duplicate(5, 1)
    assert not review.is_clash(1) and review.clash_in_words(1) == "" and review.majority_label(1) is None
    review.not_duplicate(3, 2)
    assert review.select(clash=True) == [0]
    review.undo()
    assert review.select(clash=True) == [0, 2]


def test_each_picture_of_a_group_has_its_own_clash(items):
    review = Review(items, [(0, 1, 2, 4, 5)])  # cat cat cat dog dog
    review.not_duplicate([2, 5], 0)
    assert review.clash_in_words(0) == (
        "labels differ, most say cat: 2 cat, 1 dog; labels differ and tie: 1 cat, 1 dog"
    )
    assert review.majority_label(0) is None
    assert review.relabel_to_majority(0) == 1 and review.clash_in_words(0) == (
        "labels differ and tie: 1 cat, 1 dog"
    )


def test_what_leaves_has_no_vote_unless_all_leave(items):
    review = Review(items, [(0, 1, 4, 5, 6)])  # cat cat dog dog dog
    review.mark([5, 6], "delete")
    assert review.clash_in_words(0) == "labels differ, most say cat: 2 cat, 1 dog"
    assert review.relabel_to_majority(0) == 3 and review.relabeled == {4: "cat", 5: "cat", 6: "cat"}
    review.undo()
    review.mark(4, "delete")
    assert not review.is_clash(0) and review.majority_label(0) == "cat"
    review.mark([0, 1], "delete")
    assert review.clash_in_words(0) == "labels differ, most say dog: 3 dog, 2 cat"


def test_the_order_of_several_labels_is_no_clash(items):
    several = ("a;b", "b;a", "a;b;c", "b;a", "b", None, "a;c", "a;c")

    def opened(delim):
        made = Items(items.paths, several, items.splits, items.root, label_delim=delim)
        return Review(made, [(0, 1), (1, 0, 2, 4), (2, 5, 6)], ledger=items.root / f"{delim}.jsonl")

    review = opened(";")
    assert review.select(clash=True) == [1, 2] and review.majority_label(0) == "a;b"
    assert review.clash_in_words(1) == "labels differ, most say b;a: 2 b;a, 1 a;b;c, 1 b"
    assert review.relabel_to_majority([0, 1]) == 2 and review.relabeled == {2: "b;a", 4: "b;a"}
    assert opened(None).select(clash=True) == [0, 1, 2]


def test_a_whole_group_is_dropped_but_for_what_is_protected(items):
    review = Review(items, [Group((0, 1, 4), protected=(1,)), (2, 5), (3, 6)])
    assert review.drop_all([0, 1]) == 4 and review.deleted == [0, 2, 4, 5] and review.kept == []
    assert review.lost() == [1]  # `apply` asks about it
    review.undo()
    assert review.decisions == {}


def test_what_there_is_not_is_refused(review):
    with pytest.raises(ValueError, match="no group 3"):
        review.drop_all(3)
    with pytest.raises(ValueError, match="no item 8"):
        review.relabel_to_majority(0, 8)


def test_suggestions_for_many_leave_it_to_a_person_whose_label_is_true(review):
    assert review.accept_suggestions() == 0 and review.decisions == {}
    review.relabel_to_majority(0)
    assert review.accept_suggestions() == 3 and review.deleted == [1, 4]
    review.mark(5, "delete")  # the cat it is
    assert review.accept_suggestions() == 1 and review.kept == [0, 2]
    review.keep_best(2)  # asked for this very group
    assert review.deleted == [1, 4, 5, 6, 7]


def test_no_suggestion_decides_a_label_by_way_of_another_group(items):
    "fastai v1's pairs share images: to delete one of two cats would take its vote away from the pair of cat and dog."
    review = Review(items, [(0, 1), (1, 4), (2, 3)])
    assert review.agreed(range(3)) == [2] and review.accept_suggestions() == 2
    assert review.decisions == {"cat/c.jpg": "keep", "cat/d.jpg": "delete"} and review.is_clash(1)


def test_the_grid_does_both(items):
    cleaner, sent = ImageCleaner(items, GROUPS), []
    cleaner.send = lambda message, buffers=None: sent.append(message)
    assert row(cleaner.review, 1)["clash"] == "labels differ and tie: 1 cat, 1 dog"
    cleaner._receive(
        None, {"type": "do", "do": "relabel_to_majority", "seq": 1, "groups": [0, 1], "ids": [5]}, None
    )
    assert cleaner.relabeled == {2: "dog", 4: "cat"} and sent[-1]["note"] == "relabelled 2 images"
    assert sent[-2]["clash"] == {0: "", 1: ""}
    cleaner._receive(
        None, {"type": "do", "do": "relabel_to_majority", "seq": 2, "groups": [0], "ids": []}, None
    )
    assert sent[-1]["note"].startswith("nothing to relabel")
    cleaner.review.undo()
    cleaner._receive(None, {"type": "do", "do": "mark", "seq": 3, "ids": [5], "value": "delete"}, None)
    assert sent[-2]["clash"] == {1: ""}  # the other side leaves
    cleaner.review.undo()
    assert sent[-1]["clash"] == {1: "labels differ and tie: 1 cat, 1 dog"}
    cleaner.review.redo()
    cleaner._receive(None, {"type": "do", "do": "drop_all", "seq": 3, "groups": [2]}, None)
    assert cleaner.deleted == [3, 5, 6, 7] and sent[-1]["type"] == "done"
    assert row(cleaner.review, 1)["clash"] == ""
