import csv
import hashlib
import json
import shutil
import threading

import numpy as np
import pytest
from pictures import picture

from imgclean.dataset.items import Items
from imgclean.find.groups import Group
from imgclean.review.apply import EveryCopyLost
from imgclean.review.regroup import as_groups
from imgclean.review.session import Review


@pytest.fixture
def items(shop):
    return Items.from_folder(shop)


@pytest.fixture
def review(items):
    return Review(items, [Group((0, 2, 4), 0.99), Group((5, 7), 0.98)])


def state(review):
    return review.deleted, review.kept, review.relabeled


def again(review):
    "The same review in a new session."
    return Review(review.items, review.groups, review.path)


def rows(review):
    with open(review.path / "cleaned.csv", newline="") as f:
        return dict(list(csv.reader(f))[1:])


def bytes_of(folder):
    return {p: hashlib.md5(p.read_bytes()).hexdigest() for p in folder.rglob("*.jpg")}


def test_each_action_does_what_it_says(review):
    review.mark([2, 3], "delete")
    review.mark(2, None)
    assert state(review) == ([3], [], {})
    review.keep_only(2)
    assert state(review) == ([0, 3, 4], [2], {})
    review.keep_all(0)
    assert state(review) == ([3], [0, 2, 4], {})
    review.keep_best([0, 1])  # of many groups at once: what was told to be no duplicate stays
    assert state(review) == ([3, 7], [0, 2, 4, 5], {})
    review.keep_best(0)  # of this one: so they are duplicates after all
    assert state(review) == ([2, 3, 4, 7], [0, 5], {})
    review.relabel(0, "dog")
    assert review.relabeled == {0: "dog"} and review.label_of(0) == "dog"
    review.relabel(0, "cat")  # its old label again
    assert review.relabeled == {}
    assert review.decisions["cat/c.jpg"] == "delete" and review.undecided == []
    assert not review.is_apart(0, 2)  # nobody is told apart any more


def test_several_images_and_groups_are_one_step(items):
    review = Review(items, [(0, 2, 4), (5, 7)])
    review.keep_only([2, 4, 5], [0, 1])
    assert (review.deleted, review.kept) == ([0, 7], [2, 4, 5])
    review.undo()
    assert review.decisions == {}
    review.keep_all([0, 1])
    assert review.kept == [0, 2, 4, 5, 7] and review.is_apart(0, 2) and not review.is_apart(0, 5)
    review.undo()
    assert review.decisions == {} and not review.is_apart(0, 2)


def test_no_suggestion_deletes_what_is_protected(items):
    groups = [Group((0, 2, 4), protected=(0, 4)), Group((4, 5)), Group((7, 2), protected=(7,))]
    review = Review(items, groups)
    review.keep_best()
    assert review.kept == [0, 4, 7] and review.deleted == [2, 5]
    other = Review(items, groups[:1], ledger=items.root / "other.jsonl")
    other.keep_best(0)
    assert other.kept == [0, 4] and other.deleted == [2]
    with pytest.raises(ValueError, match=r"dog/a.jpg is protected"):  # not in silence either
        other.mark([2, 4], "delete")
    other.keep_only(2)
    assert other.kept == [0, 2, 4] and other.deleted == []


def test_accept_keeps_only_what_is_undecided(review):
    review.mark(4, "delete")
    assert not review.is_decided(0)
    review.accept(0)
    assert review.deleted == [4] and review.kept == [0, 2] and review.is_decided(0)
    assert review.undecided == [5, 7]


def test_an_image_in_two_groups_has_one_mark(items):
    review = Review(items, [(0, 2), (2, 4)])
    review.keep_only(2)
    assert review.deleted == [0, 4] and review.kept == [2]
    review.keep_only(4, 1)
    assert review.deleted == [0, 2] and review.kept == [4]


def test_a_file_that_is_listed_twice_can_be_dropped_once(items):
    twice = Review(items.subset([0, 1, 0]), [(0, 2)])
    twice.keep_best(np.int64(0))
    assert (twice.kept, twice.deleted) == ([0], [2])
    other = again(twice)
    assert (other.kept, other.deleted) == ([0], [2]) and len(other.cleaned()) == 2


def random_action(review, rng):
    k, g = int(rng.integers(8)), int(rng.integers(2))
    actions = [
        lambda: review.mark([k, (k + 1) % 8], rng.choice(["delete", "keep"]).item()),
        lambda: review.mark(k, None),
        lambda: review.keep_only([0, 2, 4, 5, 7][k % 5]),
        lambda: review.keep_all(g),
        lambda: review.keep_best(g),
        lambda: review.accept(g),
        lambda: review.relabel(k, rng.choice(["cat", "dog", "cow"]).item()),
    ]
    actions[rng.integers(len(actions))]()


@pytest.mark.parametrize("seed", range(5))
def test_undo_and_redo_walk_through_every_state(review, seed):
    rng = np.random.default_rng(seed)
    states = [state(review)]
    for _ in range(30):
        random_action(review, rng)
        if state(review) != states[-1]:  # what changes nothing is no step
            states.append(state(review))
    for expected in reversed(states[:-1]):
        assert review.undo() and state(review) == expected
    assert not review.undo()
    for expected in states[1:]:
        assert review.redo() and state(review) == expected
    assert not review.redo()


@pytest.mark.parametrize("seed", range(5))
def test_a_new_session_continues_after_any_action_undo_included(review, seed, tmp_path):
    rng = np.random.default_rng(seed)
    for step in range(40):
        what = rng.random()
        review.undo() if what < 0.25 else review.redo() if what < 0.4 else random_action(review, rng)
        if not review.ledger.path.exists():
            continue
        copy = shutil.copy(review.ledger.path, tmp_path / f"{step}.jsonl")
        other = Review(review.items, review.groups, review.path, ledger=copy)
        assert state(other) == state(review)
    while review.undo():
        assert other.undo() and state(other) == state(review)
    assert not other.undo()
    while review.redo():
        assert other.redo() and state(other) == state(review)
    assert not other.redo()


def test_a_new_action_forgets_what_was_undone(review):
    review.mark(0, "delete")
    review.undo()
    review.mark(2, "keep")
    assert not review.redo() and not again(review).redo()


def test_the_decision_is_on_disk_before_the_call_returns(review):
    review.mark(0, "delete")
    line = json.loads(review.ledger.path.read_text().splitlines()[-1])
    assert line["mark"] == {"cat/a.jpg": "delete"} and line["files"]["cat/a.jpg"][0] == review.items.n_bytes(
        0
    )


def test_what_cannot_be_written_is_not_decided(review, monkeypatch):
    review.mark(0, "delete")

    def full(line):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(review.ledger, "append", full)
    for action in (lambda: review.mark(2, "delete"), review.undo, lambda: review.keep_best()):
        with pytest.raises(OSError, match=r"not recorded.*No space left"):
            action()
        assert state(review) == ([0], [], {})


def test_decisions_about_changed_files_are_dropped(review, shop):
    review.mark([0, 2], "delete")
    picture(99).save(shop / "cat/a.jpg")
    assert again(review).deleted == [2]
    (shop / "cat/c.jpg").touch()  # newer, but the same
    assert again(review).deleted == [2]


def test_decisions_about_images_outside_the_groups_count_too(review):
    "As after a review of wrong labels in the same folder."
    review.mark(1, "delete")
    later = Review(review.items, [(5, 7)], review.path)
    later.keep_best()
    later.apply()
    assert later.deleted == [1, 7] and "cat/b.jpg" not in rows(later)


def test_a_foreign_or_broken_ledger_is_survived(review):
    review.mark(0, "delete")
    with open(review.ledger.path, "a") as f:
        f.write(
            '{"do":"mark","mark":{"cat/b.jpg":"explode"}}\n{"do":"mark","mark":{"no/such.jpg":"delete"}}\n{"do":'
        )
    other = again(review)
    assert other.deleted == [0]
    other.mark(2, "keep")
    assert again(review).kept == [2]


def test_apply_says_how_many_groups_wait(review):
    n = len(review.groups)
    done = review.apply()
    assert done.undecided == n and f"{n} groups are not decided yet" in str(done)
    review.keep_best([0])
    assert review.apply().undecided == n - 1
    review.keep_best()
    assert "not decided" not in str(review.apply())


def test_apply_writes_the_csv_and_touches_no_image(review, shop):
    before = bytes_of(shop)
    assert not (shop / "cleaned.csv").exists()
    review.keep_best()
    review.relabel(0, "dog")
    done = review.apply()
    assert (done.kept, done.deleted, done.relabeled) == (5, 3, 1) and "no image file was touched" in str(done)
    assert rows(review) == {
        "cat/a.jpg": "dog",
        "cat/b.jpg": "cat",
        "cat/d.jpg": "cat",
        "dog/b.jpg": "dog",
        "dog/c.jpg": "dog",
    }
    assert bytes_of(shop) == before
    review.apply()  # harmless
    assert not list((shop / ".imgclean").glob("cleaned-*"))


def test_opening_a_review_writes_nothing(review, shop):
    (shop / "cleaned.csv").write_text("name,label\n")
    again(review)
    assert (shop / "cleaned.csv").read_text() == "name,label\n" and not (shop / ".imgclean").exists()


def test_apply_refuses_to_lose_every_copy(review):
    review.mark([0, 2, 4], "delete")
    assert review.plan()["lost"] == [0]
    with pytest.raises(EveryCopyLost, match=r"1 group\(s\) would lose every copy: #1"):
        review.apply()
    assert not (review.path / "cleaned.csv").exists()
    assert review.apply(lose_groups=True).deleted == 3


def test_cleaned_is_the_dataset_without_the_deleted(review):
    review.keep_best()
    review.relabel(5, "cow")
    cleaned = review.cleaned()
    assert [cleaned.relpath(k) for k in range(len(cleaned))] == [
        "cat/a.jpg", "cat/b.jpg", "cat/d.jpg", "dog/b.jpg", "dog/c.jpg"
    ]  # fmt: skip
    assert cleaned.labels == ("cat", "cat", "cat", "cow", "dog")
    assert len(cleaned.dataloaders(bs=1).train_ds) + len(cleaned.dataloaders(bs=1).valid_ds) == 5


def test_watchers_hear_every_change(review):
    heard = []
    review.on_change(heard.append)
    review.mark(0, "delete")
    review.mark(0, "delete")  # no change
    review.undo()
    assert [(c["do"], c["marks"]) for c in heard] == [("mark", {0: "delete"}), ("undo", {0: None})]


def test_many_threads_lose_nothing(review):
    def work(k):
        for value in ("delete", "keep", None, "delete"):
            review.mark(k, value)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert review.deleted == list(range(8)) and again(review).deleted == list(range(8))
    while review.undo():
        pass
    assert state(review) == ([], [], {})


def test_wrong_arguments_are_refused(review, items, tmp_path):
    wrong = [
        (lambda: review.mark(99, "delete"), "no item 99"),
        (lambda: review.mark(-1, "delete"), "no item -1"),
        (lambda: review.mark(0, "burn"), "'burn'"),
        (lambda: review.relabel(0, ["cat"]), "the label is"),
        (lambda: review.keep_all(2), "no group 2"),
        (lambda: Review(items, [(0, 99)]), "idxs name item 99, but there are 8 images"),
        (lambda: Review(items, [], tmp_path / "nowhere"), "is no folder"),
        (lambda: as_groups([0, 1, 2], duplicates=True), "even number"),
    ]
    for call, message in wrong:
        with pytest.raises((ValueError, OSError), match=message):
            call()
    assert state(review) == ([], [], {})


def test_two_reviews_of_one_folder_share_decisions_and_undo(review):
    """As a notebook with a cleaner for wrong labels and one for duplicates."""
    other = again(review)
    review.mark([0, 1], "delete")
    other.mark(5, "delete")
    other.apply()
    assert len(rows(other)) == 5 and other.deleted == [0, 1, 5]
    review.mark(7, "keep")
    assert review.deleted == [0, 1, 5]
    for expected in ([0, 1, 5], [0, 1], []):  # the last action first, whoever took it
        other.undo()
        assert other.deleted == expected
    assert other.undo() is None and again(review).undo() is None
    review.redo()
    third = again(review)
    assert third.deleted == review.deleted == [0, 1] and third.undo() == [0, 1]


def test_suggestions_for_pairs_that_share_images_lose_no_picture(items):
    "fastai v1 shows three copies as three pairs."
    for pairs in ([2, 0, 4, 2, 7, 5], [4, 2, 2, 0, 4, 0], [2, 0, 4, 0, 4, 2], [0, 2, 4, 5, 2, 5]):
        review = Review(items, as_groups(pairs, duplicates=True))
        review.keep_best()
        assert review.lost() == [] and review.undecided == []
        review.undo()


def test_groups_of_another_dataset_are_refused(items):
    from imgclean.formatter import groups_of

    groups = groups_of(np.random.default_rng(0).normal(size=(8, 3)), items, n=3, min_similarity=None)
    Review(items, groups)
    for other in (items.subset([1, 2, 3, 4, 5, 6, 7, 0]), items.without({0: "broken"})):
        with pytest.raises(ValueError, match="another dataset"):
            Review(other, groups[:1])


def test_a_label_corrected_elsewhere_is_not_overridden(review, items):
    from dataclasses import replace

    review.relabel(0, "dog")
    corrected = replace(items, labels=("cow", *items.labels[1:]))
    later = Review(corrected, review.groups, review.path)
    assert later.label_of(0) == "cow" and later.relabeled == {}
    agreed = Review(replace(items, labels=("dog", *items.labels[1:])), review.groups, review.path)
    assert agreed.relabeled == {}


def test_next_undecided_group(items):
    review = Review(items, [(0, 2), (4, 5), (6, 7)])
    assert [review.next_undecided(g) for g in (-1, 0, 1, 2)] == [0, 1, 2, 0]
    review.keep_best([0, 1])
    assert [review.next_undecided(g) for g in (-1, 0, 2)] == [2, 2, 2]
    review.keep_best(2)
    assert review.next_undecided() is None and Review(items, []).next_undecided() is None


def test_a_lone_image_is_decided_by_a_new_label(items):
    review = Review(items, [(0,), (1,), (2, 4)])
    review.relabel([0, 2, 4], "dog")
    assert [review.is_decided(g) for g in range(3)] == [True, False, False] and review.n_decided == 1
    review.undo()
    assert review.n_decided == 0
