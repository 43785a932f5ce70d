"""What leaked images do to a metric: the share of right answers with and without them. Knows arrays only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest, fisher_exact

LEVEL = 0.95  # of every interval
DRAWS = 20_000


class Share(NamedTuple):
    "A share of some images, with its interval"

    value: float
    low: float
    high: float
    n: int  # images


@dataclass(frozen=True)
class LeakCost:
    "The share of right answers on a validation set, with and without the images that the model was trained on"

    reported: Share  # of all images
    unseen: Share | None  # of those without a copy in training; None: there are none
    leaked: Share | None  # of those with one; None: there are none
    gain: Share | None  # what the leaked images add: `reported` less `unseen`
    p: float | None  # of Fisher's exact test, that the model is as often right about both kinds

    def __str__(self) -> str:
        whole = f"{_percent(self.reported.value)} reported"
        if self.leaked is None:
            span = f"{_percent(self.reported.low, '')} to {_percent(self.reported.high)}"
            return f"{whole} ({span}): the model had seen none of the {self.reported.n} images"
        if self.unseen is None:
            return f"{whole}, but the model had seen all of the {self.reported.n} images"
        span = f"{_percent(self.unseen.low, '')} to {_percent(self.unseen.high)}"
        return (
            f"{whole}, {_percent(self.unseen.value)} ({span}) on the {self.unseen.n} images that the model had not seen; "
            f"it is right about {_percent(self.leaked.value)} of the {self.leaked.n} that it had, which add "
            f"{100 * self.gain.value:.1f} points ({100 * self.gain.low:.1f} to {100 * self.gain.high:.1f})"
        )


def leak_cost(
    correct: np.ndarray,  # (n,) bool or 0 and 1: whether the model is right about each image
    leaked: np.ndarray,  # (n,) bool or 0 and 1: whether it was trained on a copy of it
    seed: int = 0,
) -> LeakCost:
    """The share of right answers on all images, on those without a copy in training and on the others, with 95 % intervals.

    Shares have Wilson's interval, `gain` that of a bootstrap over the images. Raises `ValueError` where the arrays do not fit.
    Sources: "Probable inference", E. B. Wilson, 1927; "Bootstrap methods", B. Efron, 1979.
    """
    correct, leaked = _flags(correct, "correct"), _flags(leaked, "leaked")
    if len(correct) != len(leaked) or not len(correct):
        raise ValueError(
            f"correct and leaked have {len(correct)} and {len(leaked)} entries; give one of each for every image"
        )
    parts = _share(correct), _share(correct[~leaked]), _share(correct[leaked])
    if None in parts:
        return LeakCost(*parts, None, None)
    table = np.array([[(correct & side).sum(), (~correct & side).sum()] for side in (leaked, ~leaked)])
    low, high = _gain_interval(table, np.random.default_rng(seed))
    gain = Share(parts[0].value - parts[1].value, low, high, len(correct))
    return LeakCost(*parts, gain, float(fisher_exact(table).pvalue))


def _share(correct: np.ndarray) -> Share | None:
    if not len(correct):
        return None
    n, right = len(correct), int(correct.sum())
    span = binomtest(right, n).proportion_ci(LEVEL, method="wilson")
    return Share(right / n, float(span.low), float(span.high), n)


def _gain_interval(table: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """The bootstrap's interval of `reported` less `unseen`, of a table (leaked, unseen) x (right, wrong).

    Images are drawn with replacement, so of each draw nothing but the four numbers counts.
    """
    n = table.sum()
    right_leaked, _, right, wrong = rng.multinomial(n, table.ravel() / n, DRAWS).T
    some = right + wrong > 0
    gains = (right_leaked + right)[some] / n - right[some] / (right + wrong)[some]
    low, high = np.quantile(gains, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _flags(values: np.ndarray, name: str) -> np.ndarray:  # (n,) bool
    values = np.asarray(values)
    if values.ndim != 1 or not np.isin(values, (0, 1)).all():
        raise ValueError(
            f"{name} has shape {values.shape} or holds more than 0 and 1; give one bool for each image"
        )
    return values.astype(bool)


def _percent(share: float, unit: str = " %") -> str:
    return f"{100 * share:.1f}{unit}"
