"""Rankings of labels, against slow and obvious ones."""

import math

import numpy as np
import pytest

from imgclean.find.labels import LEAST, RANKINGS, label_scores, neighbour_shares, pooled, ranked


@pytest.fixture
def made():
    "30 items in 4 classes: probabilities, labels of which some are wrong, and shares of neighbours."
    rng = np.random.default_rng(0)
    true, c = rng.integers(0, 4, 30), 4
    label = true.copy()
    label[:4] = (label[:4] + 1) % 4
    probs, shares = (rng.dirichlet(np.ones(c), 30) * w + (1 - w) * np.eye(c)[true] for w in (0.8, 0.7))
    return probs, np.eye(c, dtype=bool)[label], shares


def slowly(probs, given, by, shares):
    "Scores one by one, as the docstring says."
    scores = []
    for p, g, share in zip(probs, given, shares, strict=True):
        (label,) = [c for c in range(len(g)) if g[c]]
        best, second = sorted(p, reverse=True)[:2]
        scores.append(
            {
                "self-confidence": p[label],
                "loss": math.log(max(p[label], LEAST)),
                "margin": best - second,
                "neighbours": share[label],
            }[by]
        )
    return scores


@pytest.mark.parametrize("by", [by for by in RANKINGS if by != "combined"])
def test_scores_are_what_they_say(made, by):
    probs, given, shares = made
    scores = label_scores(probs, given, by, shares=shares)
    np.testing.assert_allclose(scores, slowly(probs, given, by, shares))
    order = ranked(scores)
    assert sorted(order) == list(range(30)) and (np.diff(scores[order]) >= 0).all()


def likelihood(weights, probs, shares, given):
    z = np.log(probs) * weights[0] + np.log(shares) * weights[1]
    return (z[given] - np.log(np.exp(z).sum(axis=1))).sum()


def test_the_pool_makes_the_given_labels_likeliest(made):
    probs, given, shares = made
    grid = [(a, b) for a in np.linspace(0, 4, 81) for b in np.linspace(0, 4, 81)]
    a, b = max(grid, key=lambda w: likelihood(w, probs, shares, given))
    assert 0.1 < a < 4 and 0.1 < b < 4
    best = probs**a * shares**b
    p = pooled(probs, shares, given)
    np.testing.assert_allclose(p, best / best.sum(axis=1, keepdims=True), atol=0.03)
    assert np.log(p[given]).sum() >= likelihood((a, b), probs, shares, given)


def test_combined_is_the_margin_in_the_pool(made):
    probs, given, shares = made
    p = pooled(probs, shares, given)
    slow = [row[g][0] - max(row[~g]) for row, g in zip(p, given, strict=True)]
    np.testing.assert_allclose(label_scores(probs, given, "combined", shares=shares), slow)


def test_a_pool_of_sure_and_right_labels_stays_finite():
    given = np.eye(3, dtype=bool)[[0, 1, 2, 0]]
    probs = given.astype(float)
    p = pooled(probs, np.full((4, 3), 1 / 3), given)
    assert np.isfinite(p).all() and (p[given] > 0.99).all()


def test_useless_neighbours_change_nothing(made):
    probs, given, _ = made
    flat = np.full_like(probs, 0.25)
    scores = label_scores(probs, given, "combined", shares=flat)
    margins = probs[given] - np.where(given, 0, probs).max(axis=1)
    assert (np.sign(scores) == np.sign(margins)).all()


def test_shares_of_neighbours():
    given = np.eye(2, dtype=bool)[[0, 1, 1, 1]]
    index = np.array([[1, 2], [0, -1]])
    cosine = np.array([[0.9, 0.6], [0.5, -np.inf]])
    shares = neighbour_shares(index, cosine, given)
    prior = (0.25, 0.75)
    np.testing.assert_allclose(shares[0], [prior[0] / 2.5, (1.5 + prior[1]) / 2.5])
    np.testing.assert_allclose(shares[1], [(0.5 + prior[0]) / 1.5, prior[1] / 1.5])


def test_several_labels_are_judged_class_by_class():
    probs = np.array([[0.9, 0.2, 0.6], [0.9, 0.97, 0.1], [0.1, 0.1, 0.2]])
    given = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 0]], dtype=bool)

    def score(by):
        return label_scores(probs, given, by, several=True, shares=1 - probs)

    np.testing.assert_allclose(score("self-confidence"), [0.6, 0.03, 0.8])
    of_class = np.where(given, probs, 1 - probs)
    np.testing.assert_allclose(score("neighbours"), (1 - of_class).min(axis=1))
    np.testing.assert_allclose(score("loss"), np.log(of_class).mean(axis=1))
    np.testing.assert_allclose(score("margin"), np.abs(2 * probs - 1).min(axis=1))
    assert np.isfinite(score("combined")).all()
    np.testing.assert_allclose(
        label_scores(probs, None, "margin", several=True), np.abs(2 * probs - 1).min(axis=1)
    )


def test_ties_stay_in_their_order():
    assert ranked(np.array([0.5, 0.1, 0.5, 0.1])).tolist() == [1, 3, 0, 2]


GOOD = np.full((2, 2), 0.5)
SET = np.eye(2, dtype=bool)


@pytest.mark.parametrize(
    ("probs", "given", "by", "more", "message"),
    [
        (np.ones(4), SET, "loss", {}, "shape .4,.; give one row an image"),
        (np.ones((2, 1)), SET[:, :1], "loss", {}, "1 columns; where there is one class alone"),
        (np.array([[0.5, np.nan], [0.5, 0.5]]), SET, "loss", {}, "row 0 of probs holds NaN"),
        (np.array([[2.0, -1.0], [0.5, 0.5]]), SET, "loss", {}, "reach from -1 to 2"),
        (np.array([[0.5, 0.5], [0.5, 0.1]]), SET, "loss", {}, "row 1 of probs sums to 0.6, not to 1"),
        (GOOD, SET, "beauty", {}, "by is 'beauty'; give one of loss, margin"),
        (GOOD, None, "loss", {}, "there are none; give labels, or by='margin'"),
        (GOOD, np.eye(3, dtype=bool), "loss", {}, r"probs have the shape .2, 2., labels .3, 3."),
        (GOOD, np.ones((2, 2), dtype=bool), "loss", {}, "no label or several"),
        (GOOD, SET, "combined", {}, "compares images; give vectors"),
        (GOOD, SET, "neighbours", {"shares": np.ones((3, 2))}, r"shares .3, 2."),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(probs, given, by, more, message):
    with pytest.raises(ValueError, match=message) as err:
        label_scores(probs, given, by, **more)
    assert "\n" not in str(err.value)


def test_probabilities_in_float16_are_taken():
    probs = np.random.default_rng(0).dirichlet(np.ones(50), 20).astype(np.float16)
    assert len(label_scores(probs, np.eye(50, dtype=bool)[:20])) == 20
