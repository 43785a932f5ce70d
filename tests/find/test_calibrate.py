import numpy as np
import pytest
from scipy.special import expit

from imgclean.find.calibrate import _between, calibrate


def drawn(rng, share, n=8000, planted=150, slope=1.0, shift=0.0):
    "Scores of a set in which `share` of the candidates are copies, and of copies planted in it, by a verifier that is off."
    true = rng.random(n) < share

    def score(true):
        z = np.where(true, rng.normal(5, 3, len(true)), rng.normal(-6, 2, len(true)))
        return expit(slope * z + shift)

    return score(true), true, score(np.ones(planted, bool)), score(np.zeros(planted * 9, bool))


@pytest.mark.parametrize("share, slope, shift", [(0.3, 1, 0), (0.05, 0.6, 2), (0.005, 1.5, -1)])
def test_the_promised_precision_is_held(share, slope, shift):
    held, recall, best = 0, [], []
    for seed in range(8):
        scores, true, same, other = drawn(np.random.default_rng(seed), share, 4000, slope=slope, shift=shift)
        found = calibrate(scores, same, other, min_precision=0.95)
        taken = scores >= found.cut
        held += not taken.any() or true[taken].mean() >= 0.942  # no curve of the family fits these scores
        recall.append(taken[true].mean())
        order = np.argsort(-scores)
        good = np.flatnonzero(true[order].cumsum() / np.arange(1, len(true) + 1) >= 0.95)
        best.append(true[order][: good[-1] + 1].sum() / true.sum())
    assert held >= 7
    assert np.mean(recall) > np.mean(best) - (0.1 if share > 0.01 else 0.35)  # not bought by taking nothing


def test_probabilities_are_shares():
    scores, true, same, other = drawn(
        np.random.default_rng(1), 0.3, n=50_000, planted=400, slope=0.7, shift=1
    )
    p = calibrate(scores, same, other).probability
    for low, high in ((0.2, 0.5), (0.5, 0.8), (0.8, 0.95)):
        within = (p >= low) & (p < high)
        assert abs(true[within].mean() - p[within].mean()) < 0.1
    assert abs(p.sum() - true.sum()) < 0.06 * true.sum()


def test_a_set_without_copies_gives_next_to_none():
    scores, _, same, other = drawn(np.random.default_rng(2), 0.0, n=5000)
    assert (scores >= calibrate(scores, same, other).cut).sum() <= 1


def test_recall_counts_the_copies_that_were_no_candidates_and_each_edit():
    scores, _, same, other = drawn(np.random.default_rng(3), 0.2)
    same[:30], edits = 0, ["turned"] * 50 + ["grey"] * 100
    found = calibrate(scores, same, other, edits=edits)
    assert found.recall.value == (same >= found.cut).mean() <= 0.8
    assert found.recall.low <= found.recall.value <= found.recall.high
    assert found.by_edit["turned"] == (int((same[:50] >= found.cut).sum()), 50)
    assert found.by_edit["grey"][1] == 100
    assert found.precision.low <= found.precision.value <= found.precision.high
    assert found.precision.value >= 0.99


def test_ties_are_never_parted():
    rng = np.random.default_rng(5)
    scores, _, same, other = (np.round(x.astype(float), 1) for x in drawn(rng, 0.2))
    cut = calibrate(scores, same, other, min_precision=0.9).cut
    levels = np.unique(scores)
    assert cut in (levels[1:] + levels[:-1]) / 2
    assert calibrate(scores[:0], same, other).cut == 0.5  # no pairs: between nothing and certainty


def test_the_cut_lies_midway_between_what_is_taken_and_the_next():
    scores = np.array([0.999] * 30 + [0.2, 0.001] + [0.0005] * 300)
    same, other = np.array([0.999] * 80 + [0.7] * 15 + [0.0] * 5), np.full(900, 0.0005)
    found = calibrate(scores, same, other)
    assert found.cut == pytest.approx((0.999 + 0.2) / 2) and found.recall.value == 0.95
    none = calibrate(scores[30:], same, other)
    assert none.cut == pytest.approx((1 + 0.2) / 2) and none.recall.value == 0.95


def test_many_sure_pairs_leave_no_room_for_unlikely_ones():
    scores = np.array([0.999] * 3000 + [0.1] * 20 + [0.0005] * 3000)
    same, other = np.full(200, 0.999), np.concatenate([np.full(880, 0.0005), np.full(20, 0.1)])
    found = calibrate(scores, same, other)
    assert found.probability[3000] < 0.5 and 0.1 < found.cut < 0.999


def test_where_even_certainty_is_not_enough_nothing_is_taken():
    assert _between(np.array([1.0, 0.5]), -1) > 1
    close = np.array([0.5, np.nextafter(0.5, 0)])  # nothing lies between
    assert _between(close, 0) == 0.5


def test_what_cannot_be_calibrated_is_said():
    ok = np.full(20, 0.5)
    for bad in (np.array([0.5, 2]), np.array([np.nan]), np.zeros((2, 2))):
        with pytest.raises(ValueError, match="scores must be numbers from 0 to 1"):
            calibrate(bad, ok, ok)
    with pytest.raises(ValueError, match="0 planted copies among the candidates and 20 other pairs"):
        calibrate(ok, np.zeros(9), ok)
    with pytest.raises(ValueError, match="min_precision is 99; give a share"):
        calibrate(ok, ok, ok, min_precision=99)
    with pytest.raises(ValueError, match="1 edits for 20 planted copies"):
        calibrate(ok, ok, ok, edits=["grey"])


def test_the_picture_shows_both_and_the_cut():
    scores, _, same, other = drawn(np.random.default_rng(4), 0.2)
    found = calibrate(scores, same, other)
    ax = found.plot()
    assert len(ax.patches) == 80 and f"{found.cut:.3f}" in str(
        [t.get_text() for t in ax.get_legend().get_texts()]
    )
