"""What a linear model on embeddings says of images that it was not fitted on. Arrays only."""

from __future__ import annotations

import numpy as np

FOLDS = 5
# scikit-learn's C. A tenth and ten times as much found no more of the labels that were changed at random among 300 and
# among 1,000 CIFAR-10 images.
STRENGTH = 0.001


def cross_validated_probs(
    vectors: np.ndarray,  # (n, d) embeddings
    labels: np.ndarray,  # (n,) columns, 0 … c - 1, each at least twice
    folds: int = FOLDS,
) -> np.ndarray:  # (n, c) float64
    """Probabilities of each image's classes by a logistic regression that was fitted on the other folds.

    The same for the same input. Raises `ValueError` where there is one class alone, or one with a single image.
    Source: Northcutt, Jiang and Chuang, "Confident Learning", 2021 (out-of-sample probabilities).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    count = np.bincount(labels)
    if len(count) < 2 or count.min() < 2:
        raise ValueError(
            f"the classes have {', '.join(map(str, count[:10]))} images; give two classes or more, of two images or more each"
        )
    folds = min(folds, int(count.min()))
    probs = np.zeros((len(labels), len(count)))
    parts = StratifiedKFold(folds, shuffle=True, random_state=0)
    for others, fold in parts.split(vectors, labels):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=200))
        probs[fold] = model.fit(vectors[others], labels[others]).predict_proba(vectors[fold])
    return probs
