"""What is told to be no duplicate, and what becomes of decisions when files move."""

import json
import random
import shutil

import pytest
from pictures import picture

from imgclean.dataset.cleaned import Ledger
from imgclean.dataset.identity import Identities
from imgclean.dataset.items import Items
from imgclean.find.groups import Group
from imgclean.review.decisions import Apart, Change, Decisions, Relation
from imgclean.review.session import Review

GROUPS = [Group((0, 2, 4), 0.99, (1.0, 0.99, 0.98)), Group((5, 7), 0.98)]


@pytest.fixture
def items(shop):
    return Items.from_folder(shop)


@pytest.fixture
def review(items):
    return Review(items, GROUPS)


def opened(folder, groups=GROUPS):
    "A review of what is in the folder now."
    return Review(Items.from_folder(folder), groups)


def test_what_is_no_duplicate_never_comes_back(review, shop):
    review.not_duplicate(4, 0)
    assert review.parts(0) == [[0, 2], [4]] and review.kept == [4] and review.groups == GROUPS
    assert review.is_apart(4, 0) and review.is_apart(2, 4) and not review.is_apart(0, 2)
    assert opened(shop).groups == [(0, 2), (5, 7)]
    review.keep_all(1)
    assert opened(shop).groups == [(0, 2)] and opened(shop).kept == [4, 5, 7]
    assert opened(shop, [(0, 4), (7, 5), (4, 5)]).groups == [(4, 5)]  # another model's groups


def test_of_a_pair_both_are_kept(review):
    review.not_duplicate(5, 1)
    assert review.kept == [5, 7] and review.is_decided(1)


def test_several_at_once_may_be_copies_of_each_other(review):
    review.not_duplicate([2, 4], 0)
    assert review.parts(0) == [[0], [2, 4]] and review.kept == [0] and review.undecided == [2, 4, 5, 7]


def test_telling_apart_is_one_step_of_undo(review, shop):
    review.mark(4, "delete")
    review.not_duplicate(4, 0)
    assert review.kept == [4]
    assert set(review.undo()) == {0, 2, 4}
    assert review.deleted == [4] and not review.is_apart(0, 4) and opened(shop).groups == GROUPS
    review.redo()
    assert review.is_apart(0, 4) and opened(shop).groups == [(0, 2), (5, 7)]
    opened(shop).undo()
    assert opened(shop).groups == GROUPS and review.undo() == [4] and review.decisions == {}


def test_neither_suggestion_nor_keep_only_deletes_another_picture(review):
    review.not_duplicate(4, 0)
    review.keep_only(2, 0)
    assert (review.kept, review.deleted) == ([2, 4], [0])
    review.keep_best([0, 1])
    assert (review.kept, review.deleted) == ([0, 4, 5], [2, 7])


def test_keep_only_takes_back_that_none_is_a_duplicate(review):
    review.keep_all(0)
    review.keep_only(2, 0)
    assert (review.kept, review.deleted) == ([2], [0, 4]) and not review.is_apart(0, 4)


def test_only_a_part_of_a_group_is_another_picture(review):
    for ks in ([0, 2, 4], [5], [0, 5], 99):
        with pytest.raises(ValueError):
            review.not_duplicate(ks, 0)
    assert not review.ledger.path.exists()


def test_a_huge_group_takes_few_bytes(items):
    review = Review(items, [Group(range(8))])
    review.keep_all(0)
    (line,) = Ledger(review.ledger.path).lines()
    assert len(line["apart"]) == 1 and len(line["apart"][0][0]) == 8


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_those_of_all_pairs(seed):
    rng = random.Random(seed)
    apart, pairs = Apart(), set()
    for _ in range(5):
        one, others = rng.sample(range(9), 2), rng.sample(range(9), 2)
        apart.set(Relation(one, others), True)
        pairs |= {frozenset((a, b)) for a in one for b in others if a != b}
    assert all(apart(i, j) == (frozenset((i, j)) in pairs) for i in range(9) for j in range(9))
    parts = apart.parts(range(9))
    assert sorted(k for part in parts for k in part) == list(range(9))
    assert not any(frozenset((a, b)) in pairs for part in parts for a in part for b in part)
    for relation in list(apart.relations):
        apart.set(relation, None)
    assert apart.parts(range(9)) == [list(range(9))] and not apart(0, 1)


def test_decisions_follow_files_that_were_moved_and_renamed(review, shop):
    review.mark(1, "delete")
    review.relabel(3, "cow")
    review.not_duplicate(5, 1)
    shutil.move(shop / "cat", shop / "animals")
    (shop / "dog/b.jpg").rename(shop / "dog/other.jpg")
    now = Items.from_folder(shop)
    moved = replace_labels(now, {"animals": "cat"})
    later = Review(moved, [], shop)
    names = later.known.names
    assert {names[k] for k in later.deleted} == {"animals/b.jpg"}
    assert {names[k]: label for k, label in later.relabeled.items()} == {"animals/d.jpg": "cow"}
    assert later.is_apart(names.index("dog/other.jpg"), names.index("dog/d.jpg"))


def replace_labels(items, new):
    from dataclasses import replace

    return replace(items, labels=tuple(new.get(label, label) for label in items.labels))


def test_a_decision_after_the_move_counts_more(review, shop):
    review.mark(1, "delete")
    (shop / "cat/b.jpg").rename(shop / "cat/z.jpg")
    later = opened(shop, [])
    (k,) = later.deleted
    later.mark(k, "keep")
    assert opened(shop, []).decisions == {"cat/z.jpg": "keep"}
    later.undo()
    assert opened(shop, []).decisions == {"cat/z.jpg": "delete"}


def test_the_last_decision_counts_however_often_a_file_was_moved(review, shop):
    review.mark(1, "delete")
    for name, mark in (("x.jpg", "keep"), ("y.jpg", "delete"), ("z.jpg", "keep")):
        old = next(p for p in (shop / "cat").iterdir() if p.name in ("b.jpg", "x.jpg", "y.jpg"))
        old.rename(shop / "cat" / name)
        later = opened(shop, [])
        assert list(later.decisions) == [f"cat/{name}"]
        later.mark(later.known.by_name(f"cat/{name}"), mark)
    (shop / "cat/z.jpg").rename(shop / "dog/end.jpg")
    assert opened(shop, []).decisions == {"dog/end.jpg": "keep"}


def test_a_removed_copy_marks_none_of_those_that_stayed(review, shop):
    review.mark(4, "delete")
    (shop / "dog/a.jpg").unlink()  # by hand, as the csv says
    assert opened(shop, []).decisions == {}


OLD = '{"do":"mark","id":"1","of":null,"mark":{"cat/a.jpg":"delete"},"label":{},"from":{},"files":%s}\n'


def test_ledgers_of_old_are_read_by_name_alone(items, shop):
    who = Identities(items, shop)
    path = shop / ".imgclean/review.jsonl"
    path.parent.mkdir()
    path.write_text(OLD % json.dumps({"cat/a.jpg": who.fingerprint(0)}))
    assert opened(shop).decisions == {"cat/a.jpg": "delete"} and opened(shop).undo() == [0]
    (shop / "cat/a.jpg").unlink()  # its copies were not listed then
    assert opened(shop, []).decisions == {}


@pytest.mark.parametrize(
    "line",
    [
        {"mark": {"cat/a.jpg": "burn"}}, {"mark": ["cat/a.jpg"]}, {"files": {"cat/a.jpg": 7}}, {"label": {"cat/a.jpg": 7}},
        {"files": {"cat/a.jpg": [1, 2, None]}}, {"apart": [["cat/a.jpg"]]}, {"apart": [[[1], [2], True]]},
        {"apart": [[["cat/a.jpg"], ["cat/b.jpg"], "yes"]]}, {"apart": 5}, {"mark": {"cat/a.jpg": []}},
    ],
)  # fmt: skip
def test_lines_that_nobody_wrote_are_ignored_and_logged(review, shop, caplog, line):
    review.mark(1, "keep")
    review.ledger.append({"do": "mark", "mark": {"cat/c.jpg": "delete"}} | line)
    assert opened(shop).decisions == {"cat/b.jpg": "keep"} and "does not know" in caplog.text


def test_a_change_keeps_what_it_does_not_touch(items, shop):
    state = Decisions(items, Identities(items, shop), Ledger(shop / "l.jsonl"))
    state.record("mark", Change({0: "keep", 1: "delete"}))
    state.catch_up()
    change = state.differing(Change({0: "keep", 1: None}, {2: None}, {Relation([0], [1]): None}))
    assert change.marks == {1: None} and not change.labels and not change.apart


def test_decisions_of_a_colleagues_copy(review, shop, tmp_path):
    copy = shutil.copytree(shop, tmp_path / "copy")
    review.mark([1, 2], "delete")
    review.relabel(3, "cow")
    review.not_duplicate(5, 1)
    picture(99).save(copy / "cat/c.jpg")  # another picture there
    (copy / "cat/d.jpg").rename(copy / "cat/renamed.jpg")
    theirs = opened(copy, [])
    theirs.mark(1, "keep")
    done = theirs.replay(review.ledger.path)
    assert done == {"taken": 4, "here": 1, "elsewhere": 1, "protected": 0}
    names = theirs.known.names
    assert theirs.decisions == {"cat/b.jpg": "keep", "dog/b.jpg": "keep", "dog/d.jpg": "keep"}
    assert {names[k]: v for k, v in theirs.relabeled.items()} == {"cat/renamed.jpg": "cow"}
    assert theirs.is_apart(names.index("dog/b.jpg"), names.index("dog/d.jpg"))
    assert theirs.replay(review.ledger.path)["taken"] == 0
    theirs.undo()  # all of it is one step
    assert theirs.decisions == {"cat/b.jpg": "keep"} and theirs.relabeled == {}


def test_replay_deletes_nothing_that_is_protected_or_known_by_name_alone(review, items, shop):
    review.mark([2, 4], "delete")
    other = Review(items, [Group((0, 2, 4), protected=(4,))], ledger=shop / "other.jsonl")
    assert other.replay(review.ledger.path) == {"taken": 1, "here": 0, "elsewhere": 0, "protected": 1}
    assert other.deleted == [2]
    (shop / "third.jsonl").write_text('{"version":2,"do":"mark","mark":{"cat/b.jpg":"delete"},"files":{}}\n')
    assert other.replay(shop / "third.jsonl")["elsewhere"] == 1 and other.deleted == [2]
    with pytest.raises(FileNotFoundError, match="no ledger"):
        other.replay(shop / "none.jsonl")


def test_replay_of_a_ledger_that_was_undone_takes_what_was_left(review, items, shop):
    review.mark(2, "delete")
    review.mark(4, "delete")
    review.undo()
    other = Review(items, GROUPS, ledger=shop / "other.jsonl")
    other.replay(review.ledger.path)
    assert other.deleted == [2]
