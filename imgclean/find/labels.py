"""How little a label agrees with a model's probabilities and with the labels of its neighbours. Arrays only."""

from __future__ import annotations

import numpy as np

RANKINGS = ("loss", "margin", "self-confidence", "neighbours", "combined")
NEED_NEIGHBOURS = ("neighbours", "combined")
LEAST = 1e-7  # probabilities below are taken for this: float16 knows none, and the logarithm of 0 is infinite
TOLERANCE = 0.01  # of a row's sum; probabilities are often kept in float16


def label_scores(
    probs: np.ndarray,  # (n, c) out-of-sample probabilities; of several labels each its own
    given: np.ndarray | None,  # (n, c) bool, the classes of each label; only "margin" needs none
    by: str = "self-confidence",  # one of `RANKINGS`
    *,
    shares: np.ndarray | None = None,  # (n, c) of `neighbour_shares`
    several: bool = False,  # whether an item may have several labels, or none
) -> np.ndarray:  # (n,) float64
    """How little there is to doubt in each label; the smallest come first in a review.

    "self-confidence": the model's probability of the label; "loss": its logarithm; "margin": between the two best classes,
    whatever the label; "neighbours": the neighbours' share of the label; "combined": the margin of the label before the
    best other class in `pooled` probabilities. Of several labels it is that of the most doubtful class, with "loss" the
    mean. Source: Northcutt, Jiang and Chuang, "Confident Learning", 2021 (self-confidence, margin); fastai v1.
    """
    probs = check_probs(probs, several=several)
    _check_request(by, probs, given, shares, several)
    if not several:
        return _scores(probs, given, by, shares)
    yes_no = [None if x is None else np.stack([x, 1 - x], -1).reshape(-1, 2) for x in (probs, shares)]
    sides = None if given is None else np.stack([given, ~given], -1).reshape(-1, 2)
    of_class = _scores(yes_no[0], sides, by, yes_no[1]).reshape(probs.shape)
    return of_class.mean(axis=1) if by == "loss" else of_class.min(axis=1)


def ranked(scores: np.ndarray) -> np.ndarray:  # (n,) int64
    "Items, lowest score first; ties in their own order."
    return np.argsort(scores, kind="stable")


def neighbour_shares(
    index: np.ndarray,  # (n, k) rows of `given`
    cosine: np.ndarray,  # (n, k); -inf where there are fewer neighbours
    given: np.ndarray,  # (m, c) bool, the classes of each label
) -> np.ndarray:  # (n, c) float64
    """Share of each class among an item's neighbours, weighted by cosine.

    The share of the class in the whole set counts as one more neighbour, so none is 0.
    """
    weight = np.clip(cosine, 0, None).astype(np.float64)  # of a neighbour that is missing it is -inf
    votes = np.tile(given.mean(axis=0), (len(index), 1))
    for row, w in zip(index.T, weight.T, strict=True):
        votes += w[:, None] * given[row]
    return votes / (1 + weight.sum(axis=1, keepdims=True))


def pooled(
    probs: np.ndarray,  # (n, c)
    shares: np.ndarray,  # (n, c)
    given: np.ndarray,  # (n, c) bool, one True in each row
) -> np.ndarray:  # (n, c) float64
    """Probabilities proportional to `probs**a * shares**b`, with the a and b that make the given labels likeliest.

    That likelihood is all that is fitted: it needs no known mistakes, and says how far each side can be trusted here.
    Source: logarithmic opinion pool, Genest and Zidek, 1986; weights by conditional maximum likelihood.
    """
    logs = np.log(np.maximum(np.stack([probs, shares], -1), LEAST))  # (n, c, 2)
    mean_logs = logs[given].sum(axis=0)
    weights = np.full(2, 0.5)
    for _ in range(50):  # Newton's method: the likelihood is concave
        p = _softmax(logs @ weights)
        mean = np.einsum("nc,ncf->nf", p, logs)
        gradient = mean_logs - mean.sum(axis=0)
        curvature = np.einsum("nc,ncf,ncg->fg", p, logs, logs) - mean.T @ mean
        step = np.linalg.lstsq(curvature, gradient, rcond=1e-9)[0]
        step /= max(1, np.abs(step).max())  # where the labels are sure, it has no end
        weights = np.clip(weights + step, 0, 10)
        if np.abs(step).max() < 1e-6:
            break
    return _softmax(logs @ weights)


def check_probs(probs: np.ndarray, *, several: bool = False) -> np.ndarray:  # (n, c) float64
    "`probs` as numbers that are probabilities; `ValueError` where they are none, or of fewer than two classes."
    probs = np.asarray(probs, dtype=np.float64)
    if probs.ndim != 2:
        raise ValueError(f"probs have the shape {probs.shape}; give one row an image and one column a class")
    if probs.shape[1] < (1 if several else 2):
        raise ValueError(
            f"probs have {probs.shape[1]} columns; where there is one class alone, no label can be wrong"
        )
    if not np.isfinite(probs).all():
        bad = int(np.flatnonzero(~np.isfinite(probs).all(axis=1))[0])
        raise ValueError(f"row {bad} of probs holds NaN or infinity; give probabilities from 0 to 1")
    if len(probs) and (probs.min() < 0 or probs.max() > 1 + TOLERANCE):
        raise ValueError(
            f"probs reach from {probs.min():.3g} to {probs.max():.3g}; give probabilities from 0 to 1, after softmax or sigmoid"
        )
    sums = probs.sum(axis=1)
    if not several and (off := np.abs(sums - 1) > TOLERANCE).any():
        bad = int(np.flatnonzero(off)[0])
        raise ValueError(
            f"row {bad} of probs sums to {sums[bad]:.3g}, not to 1; give probabilities after softmax, or several labels an image"
        )
    return probs


def check_ranking(by: str) -> None:
    if by not in RANKINGS:
        raise ValueError(f"by is {by!r}; give one of {', '.join(RANKINGS)}")


def _check_request(by: str, probs, given, shares, several: bool) -> None:
    check_ranking(by)
    if given is None and by != "margin":
        raise ValueError(
            f"by={by!r} ranks labels, and there are none; give labels, or by='margin', which needs none"
        )
    if given is not None and given.shape != probs.shape:
        raise ValueError(f"probs have the shape {probs.shape}, labels {given.shape}; give a row an image")
    if given is not None and not several and not (given.sum(axis=1) == 1).all():
        raise ValueError("some images have no label or several; give one for each, or several=True")
    if by in NEED_NEIGHBOURS and shares is None:
        raise ValueError(f"by={by!r} compares images; give vectors, one row an image, such as embed's")
    if by in NEED_NEIGHBOURS and shares.shape != probs.shape:
        raise ValueError(f"probs have the shape {probs.shape}, shares {shares.shape}; give a row an image")


def _scores(probs, given, by: str, shares) -> np.ndarray:
    if by == "margin":
        best = np.partition(probs, -2, axis=1)
        return best[:, -1] - best[:, -2]
    if by == "loss":
        return np.log(np.maximum(probs[given], LEAST))
    if by == "neighbours":
        return shares[given]
    if by == "combined":
        probs = pooled(probs, shares, given)
        return probs[given] - np.where(given, 0, probs).max(axis=1)
    return probs[given]


def _softmax(z: np.ndarray) -> np.ndarray:
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return z / z.sum(axis=1, keepdims=True)
