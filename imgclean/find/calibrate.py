"""Which score gives the precision that was asked for, on these very images: learnt from copies planted among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROUNDS = 100  # of the bootstrap
LIKELY = 0.5  # probability of a pair below which it is not taken
EDGE = 1e-6  # probabilities are kept this far from 0 and 1, whose logits are infinite


class Estimate(NamedTuple):
    "A share, and the interval that holds it in 95 of 100 cases"

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Calibration:
    "Where to cut a ranking of pairs, and what to expect above the cut"

    cut: float  # pairs that score at least this are taken: midway between the last of these and the next pair
    min_precision: float  # that was asked for
    precision: Estimate  # share of true pairs among those taken
    recall: Estimate  # share of the planted copies that would be taken
    edits: tuple[str, ...]  # what was done to each planted copy
    probability: np.ndarray = field(repr=False)  # (m,) float64, of each of the user's pairs
    same: np.ndarray = field(repr=False)  # scores of planted copies with their originals; 0: no candidate
    other: np.ndarray = field(repr=False)  # scores of planted copies with other images

    @property
    def by_edit(self) -> dict[str, tuple[int, int]]:
        "Edit -> how many of its planted copies would be taken, and how many there are."
        taken: dict[str, list[bool]] = {}
        for edit, score in zip(self.edits, self.same, strict=True):
            taken.setdefault(edit, []).append(bool(score >= self.cut))
        return {edit: (sum(hits), len(hits)) for edit, hits in sorted(taken.items())}

    def plot(self, ax: Axes | None = None) -> Axes:
        "Both histograms of scores with the cut between them; drawn on `ax` or a new figure."
        import matplotlib.pyplot as plt

        ax = ax or plt.subplots(figsize=(7, 3.5), layout="constrained")[1]
        bins = np.linspace(0, 1, 41)
        for scores, name in (
            (self.other, "copies with other images"),
            (self.same, "copies with their originals"),
        ):
            share = np.full(len(scores), 1 / max(len(scores), 1))
            ax.hist(scores, bins, weights=share, alpha=0.6, label=f"{name} ({len(scores)} pairs)")
        ax.axvline(min(self.cut, 1), color="black", linestyle="--", label=f"cut at {self.cut:.3f}")
        ax.set(
            xlabel="score of pairs with an edited copy that was planted",
            ylabel="share of them",
            yscale="log",
            title=f"precision {self.precision}, recall {self.recall}",
        )
        ax.legend(fontsize="small", loc="upper center")  # scores lie at both ends
        return ax


def calibrate(
    scores: np.ndarray,  # (m,) in [0, 1], of the candidate pairs among the user's images
    same: np.ndarray,  # (s,) of planted copies with their originals, 0 where they were no candidates
    other: np.ndarray,  # (o,) of planted copies with images that are certainly other pictures
    *,
    min_precision: float = 0.99,
    edits: Sequence[str] | None = None,  # (s,) what was done to each planted copy
    seed: int = 0,
) -> Calibration:
    """The lowest cut above which pairs are true in a share of at least `min_precision`, in nine of ten sets like this.

    A beta calibration curve is fitted to what was planted, held near the identity, since scores are probabilities
    already; the share of copies among the user's own pairs, unknown and mostly small, is then the
    likeliest one. Intervals are percentiles over bootstraps of what was planted.
    Sources: Kull, Silva Filho, Flach, "Beta calibration", 2017; for the share, Saerens, Latinne, Decaestecker,
    "Adjusting the outputs of a classifier to new a priori probabilities", 2002. Raises `ValueError` for scores outside [0, 1] and for too few planted copies.
    """
    scores, same, other = (np.asarray(x, dtype=np.float64) for x in (scores, same, other))
    _check(scores, same, other, min_precision)
    with threadpool_limits(1):  # of three numbers to fit, several threads make hard work
        probability = _posterior(scores, same, other)
        rng = np.random.default_rng(seed)
        cut, precision, recall = _cut(scores, probability, same, other, min_precision, rng)
    edits = tuple(edits) if edits is not None else ("",) * len(same)
    if len(edits) != len(same):
        raise ValueError(f"there are {len(edits)} edits for {len(same)} planted copies; give one for each")
    return Calibration(cut, min_precision, precision, recall, edits, probability, same, other)


def check_precision(min_precision: float) -> None:
    "Raises `ValueError` for what is no share of pairs."
    if not 0 < min_precision <= 1:
        raise ValueError(
            f"min_precision is {min_precision}; give a share above 0 and at most 1, such as 0.99"
        )


def _check(scores: np.ndarray, same: np.ndarray, other: np.ndarray, min_precision: float) -> None:
    check_precision(min_precision)
    for name, x in (("scores", scores), ("same", same), ("other", other)):
        if x.ndim != 1 or not np.isfinite(x).all() or (x < 0).any() or (x > 1).any():
            raise ValueError(
                f"{name} must be numbers from 0 to 1, one a pair; give probabilities or cosines clipped at 0"
            )
    if (same > 0).sum() < 5 or len(other) < 5:
        raise ValueError(
            f"there are {(same > 0).sum()} planted copies among the candidates and {len(other)} other pairs; "
            "give at least 5 of each, from a larger sample"
        )


def _posterior(scores: np.ndarray, same: np.ndarray, other: np.ndarray) -> np.ndarray:  # (m,) of `scores`
    "The probability of each of the user's pairs, given what was planted and how common copies are among them."
    same = same[same > 0]  # what is no candidate says nothing about candidates
    curve = _fit(_logs(same), _logs(other))
    return _with_own_share(_logs(scores) @ curve, len(same) / (len(same) + len(other)))


def _logs(p: np.ndarray) -> np.ndarray:  # (m, 3)
    p = np.clip(p, EDGE, 1 - EDGE)
    return np.stack([np.log(p), -np.log1p(-p), np.ones_like(p)], axis=1)


def _fit(same: np.ndarray, other: np.ndarray) -> np.ndarray:  # (3,)
    "Logit = a log p - b log (1 - p) + c, with a weak pull to a = b = 1, which leaves probabilities as they are."
    x = np.concatenate([same, -other])
    start = np.array(
        [1.0, 1.0, logit(len(same) / len(x))]
    )  # right for scores that are calibrated for equal shares
    pull = np.array([2.0, 2.0, 0.1])

    def loss(curve: np.ndarray) -> tuple[float, np.ndarray]:
        margin = x @ curve
        slope = x.T @ -expit(-margin) + 2 * pull * (curve - start)
        return np.logaddexp(0, -margin).sum() + (pull * (curve - start) ** 2).sum(), slope

    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.05, 10), (0.05, 10), (-50, 50)]).x


def _with_own_share(z: np.ndarray, planted: float) -> np.ndarray:
    "Probabilities of logits `z`, learnt where a share `planted` was true, at the share that explains `z` best."
    if not len(z):
        return z
    ratio = np.exp(
        np.clip(z - logit(planted), -60, 60)
    )  # likelihood as a copy over likelihood as another picture

    def loss(share: float) -> float:
        return -np.log1p(expit(share) * (ratio - 1)).sum()

    share = minimize_scalar(loss, bounds=(-16, 16), method="bounded", options={"xatol": 0.01}).x
    return expit(z - logit(planted) + share)


def _cut(scores, probability, same, other, min_precision, rng) -> tuple[float, Estimate, Estimate]:
    """The lowest cut above which `scores` are of true pairs in the wanted share, in nine of ten cases; what to expect there.

    A case: other copies might have been planted, and pairs of probability p turn out true with probability p.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, likely = scores[order], probability[order] >= LIKELY
    levels, ends = levels_of(ranked, likely)
    precisions, draws = [], []
    for _ in range(ROUNDS):
        s, o = rng.choice(same, len(same)), rng.choice(other, len(other))
        draws.append(s)
        if (s > 0).any() and len(ends):
            true = rng.random(len(scores)) < _posterior(ranked, s, o)
            precisions.append(true.cumsum()[ends] / (ends + 1))
    cut, precision = cut_of(levels, precisions, min_precision)
    return cut, precision, estimate((same >= cut).mean(), [(s >= cut).mean() for s in draws])


def levels_of(ranked: np.ndarray, likely: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different scores of falling ones, and the places where those end that may be taken: pairs that are `likely`.

    Many sure pairs would leave room for some that are most likely wrong. Ties are taken together.
    """
    ends = np.flatnonzero(np.diff(ranked, append=-1) < 0)
    return ranked[ends], ends[: int(np.logical_and.accumulate(likely[ends]).sum())]


def cut_of(
    levels: np.ndarray,  # (m,) different scores, falling
    precisions: list[
        np.ndarray
    ],  # of each case, (at most m,): the precision if all down to that level are taken
    min_precision: float,
) -> tuple[float, Estimate]:
    "The lowest cut that has the precision in nine of ten cases, and the precision to expect there."
    good = np.flatnonzero(np.percentile(precisions, 10, axis=0) >= min_precision) if precisions else []
    if not len(good):
        return _between(levels, -1), Estimate(1.0, 0.0, 1.0)
    at_cut = [p[good[-1]] for p in precisions]
    return _between(levels, good[-1]), estimate(np.mean(at_cut), at_cut)


def _between(levels: np.ndarray, last: int) -> float:
    "Midway between the level `last` of the falling `levels`, which is taken, and the next, which is not; -1: none is."
    high = float(levels[last]) if last >= 0 else 1.0
    low = float(levels[last + 1]) if last + 1 < len(levels) else 0.0
    if last < 0 and low >= 1:
        return float(np.nextafter(1, 2))
    middle = (low + high) / 2
    return middle if middle > low else high


def estimate(value: float, draws: list[float]) -> Estimate:
    "`value` with the interval that holds 95 of 100 `draws`."
    low, high = np.percentile(draws, (2.5, 97.5))
    return Estimate(float(value), min(float(low), float(value)), max(float(high), float(value)))
