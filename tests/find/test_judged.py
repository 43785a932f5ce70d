import numpy as np
import pytest
from scipy.special import expit

from imgclean.find.calibrate import calibrate
from imgclean.find.judged import pairs_to_ask, refined


def misled(seed, n=3000):
    "A set full of pictures that resemble each other more than what was planted, and which pairs are true."
    rng = np.random.default_rng(seed)
    true = rng.random(n) < 0.1
    scores = expit(np.where(true, rng.normal(6, 1.5, n), rng.normal(-2, 2, n)))
    same, other = expit(rng.normal(6, 1.5, 200)), expit(rng.normal(-6, 2, 900))
    return scores, true, calibrate(scores, same, other, min_precision=0.95)


def test_answers_mend_a_promise_that_was_not_true():
    before, after, recall = [], [], []
    for seed in range(6):
        scores, true, calibration = misled(seed)
        asked = pairs_to_ask(calibration, 30, seed)
        better = refined(calibration, scores, asked, true[asked])
        before.append(true[scores >= calibration.cut].mean())
        after.append(true[scores >= better.cut].mean())
        recall.append((scores >= better.cut)[true].mean())
        assert better.recall.value == (calibration.same >= better.cut).mean()
        assert (better.probability[asked] == true[asked]).all()
        assert abs(better.probability.sum() - true.sum()) < abs(calibration.probability.sum() - true.sum())
    assert max(before) < 0.9 and min(after) > 0.95
    assert np.mean(recall) > 0.3  # not bought by taking nothing


def test_without_answers_the_estimate_stays():
    scores, _, calibration = misled(1)
    same = refined(calibration, scores, [], [])
    assert np.allclose(same.probability, calibration.probability, atol=1e-6)
    assert same.min_precision == calibration.min_precision and same.edits == calibration.edits


def test_what_is_asked_reaches_from_the_surest_to_the_others():
    scores, _, calibration = misled(2)
    asked = pairs_to_ask(calibration, 30)
    p = calibration.probability[asked]
    assert 25 <= len(asked) == len(set(asked.tolist())) <= 30 and (np.diff(p) <= 0).all()
    unsure = (calibration.probability > 0.05) & (calibration.probability < 0.95)
    assert np.isin(asked, np.flatnonzero(unsure)).mean() > 1.5 * unsure.mean()
    assert p[0] > 0.99 and p[-1] < 0.05  # a promise may be wrong at its sure ends, too
    assert sorted(pairs_to_ask(calibration, len(scores))) == list(range(len(scores)))
    assert list(pairs_to_ask(calibration, 30)) == list(asked)


def test_every_pair_may_be_judged():
    scores, true, calibration = misled(3, n=40)
    every = np.arange(40)
    found = refined(calibration, scores, every, true)
    assert (found.probability == true).all() and found.cut == 0.5  # nothing is left to cut


def test_answers_that_do_not_fit_are_refused():
    scores, _, calibration = misled(4)
    for asked, answers in (([1, 2], [True]), ([1, 1], [True, False])):
        with pytest.raises(ValueError, match=f"there are {len(answers)} answers for"):
            refined(calibration, scores, asked, answers)
