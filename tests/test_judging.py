import numpy as np
import pytest
from pictures import write_pictures

from imgclean.dataset.items import Items
from imgclean.find.groups import Groups
from imgclean.formatter import DatasetFormatter, verified_groups_of
from imgclean.judging import calibrate_by_review, pairs_to_judge
from imgclean.review.session import Review


def test_a_person_sees_pairs_of_both_kinds(found):
    ds, idxs = found
    asked = pairs_to_judge(ds, idxs, 12)
    shown = [k for g in asked for k in g]
    assert (
        5 <= len(asked) <= 12
        and len(shown) == len(set(shown))
        and all(len(g) == 2 and g.dataset == ds.key() for g in asked)
    )
    taken = {(i, j) for i, j, _ in idxs.pairs}
    sides = {(max(g), min(g)) in taken for g in asked}
    assert sides == {True, False}
    assert len(asked.found.checks) == len(asked.pairs) == len(asked)
    assert asked.explain is idxs.explain is not None


def test_the_answers_of_a_review_are_in_the_new_groups(found, tmp_path):
    ds, idxs = found
    asked = pairs_to_judge(ds, idxs, 12)
    taken = {(i, j) for i, j, _ in idxs.pairs}
    yes = next(g for g in range(len(asked)) if (max(asked[g]), min(asked[g])) not in taken)
    no = next(g for g in range(len(asked)) if (max(asked[g]), min(asked[g])) in taken)
    review = Review(ds, asked, tmp_path)
    review.mark(asked[yes][1], "delete")
    review.keep_all(no)
    new = calibrate_by_review(idxs, review)
    pairs = {(i, j): p for i, j, p in new.pairs}
    assert pairs[max(asked[yes]), min(asked[yes])] == 1
    assert (max(asked[no]), min(asked[no])) not in pairs
    assert new.explain is idxs.explain and new.computed == idxs.computed is not None
    assert new.settings["cut"] == new.found.cut == new.found.calibration.cut
    assert len(new.found.checks) == len(new.pairs) and new.found.candidates is idxs.found.candidates
    assert new.settings.keys() == idxs.settings.keys() and new.seconds["look"] == idxs.seconds["look"]
    by_hand = {tuple(asked[yes]): True, tuple(asked[no]): False}
    assert calibrate_by_review(idxs, by_hand) == new
    again = Review(ds, asked, tmp_path)  # which shows no longer what was told apart
    assert calibrate_by_review(idxs, again).pairs.score.tolist() == new.pairs.score.tolist()


def test_a_second_round_adds_to_the_first(found):
    ds, idxs = found
    asked = [(max(g), min(g)) for g in pairs_to_judge(ds, idxs, 12)]
    taken = {(i, j) for i, j, _ in idxs.pairs}
    first = {pair: pair not in taken for pair in asked[:2] + asked[-2:]}  # the contrary of what was found
    both = calibrate_by_review(calibrate_by_review(idxs, first), {asked[2]: True})
    pairs = {(i, j) for i, j, _ in both.pairs}
    assert all((pair in pairs) == same for pair, same in first.items()) and asked[2] in pairs
    assert both == calibrate_by_review(idxs, first | {asked[2]: True})


def test_what_is_protected_stays_so(sample):
    keep = sample.path / "object"
    ds, idxs = DatasetFormatter.from_similars(sample.path, protect=[keep], progress=False)
    shown = [k for g in pairs_to_judge(ds, idxs, 12) for k in g if ds.paths[k].is_relative_to(keep)]
    safe = {k for g in pairs_to_judge(ds, idxs, 12) for k in g.protected}
    assert shown and safe == set(shown)


def test_a_review_without_answers_changes_no_estimate(found, tmp_path):
    ds, idxs = found
    review = Review(ds, pairs_to_judge(ds, idxs, 12), tmp_path)
    review.accept(0)  # to go on says nothing about whether they are the same
    new = calibrate_by_review(idxs, review)
    assert new.found.calibration.recall.value == pytest.approx(idxs.found.calibration.recall.value, abs=0.1)
    before, after = (x.found.calibration.probability for x in (idxs, new))
    assert np.allclose(before, after, atol=1e-4)


def test_what_has_no_calibration_is_refused(found, tmp_path):
    ds, idxs = found
    with pytest.raises(ValueError, match="no calibration to refine"):
        pairs_to_judge(ds, Groups([(1, 0)]))
    write_pictures(tmp_path, ["a.png", "b.png"], [1, 1])
    items = Items.from_folder(tmp_path)
    few = verified_groups_of(
        np.ones((2, 1)), items, lambda more: (np.ones((len(more), 1)), more), progress=False
    )
    with pytest.raises(ValueError, match="no calibration to refine"):
        calibrate_by_review(few, {})
    with pytest.raises(ValueError, match="is no candidate"):
        calibrate_by_review(idxs, {(10**6, 0): True})
