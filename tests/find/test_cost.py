import numpy as np
import pytest

from imgclean.find.cost import DRAWS, leak_cost


def slow_wilson(right, n, z=1.959963984540054):
    "As Wilson wrote it down."
    p = right / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return p, middle - half, middle + half


def answers(n=400, n_leaked=80, seed=0):
    "A model that is right about 80 % of the images, and about 99 % of those that it was trained on."
    rng = np.random.default_rng(seed)
    leaked = np.arange(n) < n_leaked
    return rng.random(n) < np.where(leaked, 0.99, 0.8), leaked


def test_shares_with_their_intervals():
    correct, leaked = answers()
    cost = leak_cost(correct, leaked)
    for share, some in (
        (cost.reported, correct),
        (cost.unseen, correct[~leaked]),
        (cost.leaked, correct[leaked]),
    ):
        assert share[:3] == pytest.approx(slow_wilson(some.sum(), len(some))) and share.n == len(some)


def test_what_the_leaks_add_has_the_interval_of_a_bootstrap_over_images():
    correct, leaked = answers()
    cost = leak_cost(correct, leaked)
    rng, gains = np.random.default_rng(1), []
    for _ in range(4000):
        ks = rng.integers(0, len(correct), len(correct))
        gains.append(correct[ks].mean() - correct[ks][~leaked[ks]].mean())
    assert cost.gain.value == pytest.approx(correct.mean() - correct[~leaked].mean())
    assert (cost.gain.low, cost.gain.high) == pytest.approx(np.quantile(gains, [0.025, 0.975]), abs=0.003)
    assert cost.gain.low > 0 and cost.p < 0.001
    assert leak_cost(correct, leaked) == cost and DRAWS > 4000


def test_the_interval_covers_the_truth():
    "Nineteen times in twenty, for a model that is right about 80 % and 99 %, a fifth of the images leaked."
    rng, truth, held = np.random.default_rng(0), 0.2 * (0.99 - 0.8), 0
    for _ in range(200):
        leaked = rng.random(400) < 0.2
        gain = leak_cost(rng.random(400) < np.where(leaked, 0.99, 0.8), leaked).gain
        held += gain.low <= truth <= gain.high
    assert 180 <= held <= 199


def test_it_is_said_in_words():
    correct = np.array([True] * 96 + [False] * 4 + [True] * 20)
    leaked = np.arange(120) >= 100
    words = str(leak_cost(correct, leaked))
    assert words.startswith(
        "96.7 % reported, 96.0 % (90.2 to 98.4 %) on the 100 images that the model had not seen; "
    )
    assert "right about 100.0 % of the 20 that it had, which add 0.7 points (" in words


def test_nothing_or_everything_leaked():
    none, everything = leak_cost([1, 0, 1, 1], [0] * 4), leak_cost([1, 0, 1, 1], [1] * 4)
    assert none.leaked is None and none.gain is None and none.unseen == none.reported
    assert "had seen none of the 4 images" in str(none) and str(none).startswith(
        "75.0 % reported (30.1 to 95.4 %)"
    )
    assert everything.unseen is None and "had seen all of the 4 images" in str(everything)


@pytest.mark.parametrize(
    ("correct", "leaked", "match"),
    [
        ([1, 0], [1], "2 and 1 entries"),
        ([], [], "0 and 0 entries"),
        ([0.5, 1], [0, 1], "correct has shape"),
        ([1, 0], [[0, 1]], "leaked has shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(correct, leaked, match):
    with pytest.raises(ValueError, match=match):
        leak_cost(correct, leaked)
