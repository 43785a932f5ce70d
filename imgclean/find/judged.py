"""A calibration that learns from a person: which pairs to ask about, and what the answers change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from .calibrate import EDGE, LIKELY, Calibration, cut_of, estimate, levels_of

DRAWS = 200  # curves that the answers leave possible
BEFORE = np.array([1.0, 0.0])  # slope and shift of logits that leave a calibration as it is
SPREAD = np.array([0.3, 2.0])  # standard deviations of what they may be before anybody has answered


def pairs_to_ask(
    calibration: Calibration,
    n: int = 30,
    seed: int = 0,
) -> np.ndarray:  # (at most n,) int64, places in `calibration.probability`, most likely first
    """The pairs whose answers tell most: drawn at even steps through the ranking, where it is unsure in smaller ones.

    A pair weighs the standard deviation of its answer, and a little for those that seem sure.
    """
    order = np.argsort(-calibration.probability, kind="stable")
    p = calibration.probability[order]
    if len(p) <= n:
        return order
    weight = np.sqrt(p * (1 - p)) + 0.02
    steps = weight.cumsum() / weight.sum()
    at = (np.arange(n) + np.random.default_rng(seed).random()) / n
    return order[np.unique(np.searchsorted(steps, at))]


def refined(
    calibration: Calibration,
    scores: np.ndarray,  # (m,) of the candidates, as `calibrate` was given them
    asked: np.ndarray,  # (a,) int, places of the pairs that a person judged
    answers: np.ndarray,  # (a,) bool: the same picture
    *,
    seed: int = 0,
) -> Calibration:
    """The calibration after a person's answers: of the pairs judged it holds the truth, of the others a new estimate.

    A slope and a shift of the logits are fitted to the answers (Platt 1999), near 1 and 0 while there are few. The cut is the
    lowest that has the wanted precision among the other pairs in nine of ten of the curves which the answers leave
    possible. Raises `ValueError` where places and answers do not fit.
    """
    asked, answers = np.asarray(asked, dtype=np.int64), np.asarray(answers, dtype=bool)
    if asked.shape != answers.shape or len(np.unique(asked)) != len(asked):
        raise ValueError(
            f"there are {len(answers)} answers for {len(np.unique(asked))} pairs; give one for each"
        )
    z = logit(np.clip(calibration.probability, EDGE, 1 - EDGE))
    rng = np.random.default_rng(seed)
    curve, covariance = _fit(z[asked], answers)
    probability = expit(curve[0] * z + curve[1])
    probability[asked] = answers
    cut, precision = _cut(
        np.delete(scores, asked), np.delete(z, asked), curve, covariance, calibration.min_precision, rng
    )
    same = calibration.same
    draws = [(rng.choice(same, len(same)) >= cut).mean() for _ in range(DRAWS)]
    recall = estimate((same >= cut).mean(), draws)
    return replace(calibration, cut=cut, precision=precision, recall=recall, probability=probability)


def _fit(z: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "The likeliest slope and shift, and their covariance."
    x = np.stack([z, np.ones_like(z)], axis=1)
    sign = np.where(answers, 1.0, -1.0)

    def loss(curve: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (x @ curve)
        off = (curve - BEFORE) / SPREAD
        return np.logaddexp(0, -margin).sum() + off @ off / 2, -x.T @ (sign * expit(-margin)) + off / SPREAD

    curve = minimize(loss, BEFORE, jac=True, method="L-BFGS-B", bounds=[(0.05, 10), (-50, 50)]).x
    p = expit(x @ curve)
    return curve, np.linalg.inv(x.T @ (x * (p * (1 - p))[:, None]) + np.diag(SPREAD**-2.0))


def _cut(scores, z, curve, covariance, min_precision, rng):
    order = np.argsort(-scores, kind="stable")
    ranked, z = scores[order], z[order]
    levels, ends = levels_of(ranked, expit(curve[0] * z + curve[1]) >= LIKELY)
    precisions = []
    for slope, shift in rng.multivariate_normal(curve, covariance, DRAWS if len(ends) else 0):
        true = rng.random(len(z)) < expit(max(slope, 0.05) * z + shift)
        precisions.append(true.cumsum()[ends] / (ends + 1))
    return cut_of(levels, precisions, min_precision)
