"""Vectors turned so that what all images of a dataset share counts less, learnt from these images themselves."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh

from .pairs import Pairs
from .similarity import cosines

SAMPLE = 2048  # rows that are looked at
MAX_DIMS = 256
MIN_DIMS = 8  # below, there is too little to tell images apart by
ROWS_A_DIM = 6  # fewer rows tell nothing reliable about a direction
CHUNK = 4096  # rows that are turned at a time


class Whitening:
    """Makes short vectors of embeddings, in which other directions count than those in which most images differ.

    Square roots of the numbers, lengths 1, centred, then the strongest principal components, each scaled to variance
    1. Two edited copies are nearer to each other this way than two pictures of one kind (docs/benchmarks.md).
    Sources: Arandjelovic and Zisserman, "Three things everyone should know", 2012, for the roots; Jégou and Chum,
    "Negative evidences and co-occurences in image retrieval: the benefit of PCA and whitening", 2012.
    """

    def __init__(
        self, emb: np.ndarray, seed: int = 0
    ):  # (n, d) float, may be an np.memmap larger than memory
        rows = np.arange(len(emb))
        if len(emb) > SAMPLE:
            rows = np.sort(np.random.default_rng(seed).choice(len(emb), SAMPLE, replace=False))
        dims = min(MAX_DIMS, len(rows) // ROWS_A_DIM, emb.shape[1])
        if dims < MIN_DIMS:
            self.mean, self.turn = np.zeros(emb.shape[1]), np.empty((emb.shape[1], 0))
            return
        x = _rooted(emb[rows])
        self.mean = x.mean(axis=0)
        self.turn = _components(x - self.mean, dims).astype(np.float32)

    @property
    def dims(self) -> int:
        "Numbers of a whitened vector; 0 where there are too few images to learn from."
        return self.turn.shape[1]

    def __call__(self, emb: np.ndarray) -> np.ndarray:  # (n, dims) float32
        "The whitened rows of `emb` (n, d)."
        out = np.empty((len(emb), self.dims), dtype=np.float32)
        for start in range(0, len(emb), CHUNK):
            out[start : start + CHUNK] = (_rooted(emb[start : start + CHUNK]) - self.mean) @ self.turn
        return out


def expected_cosines(
    vectors: np.ndarray,  # (n, d) float
    pairs: Pairs,  # of them; the score is the cosine
) -> Pairs:
    """`pairs` with the cosine that is to be expected of pairs whose whitened vectors are as similar, by a straight line.

    So what tells duplicates better is on the scale that is known. The same pairs where there is too little to learn from.
    """
    whitening = Whitening(vectors)
    if len(pairs) < 2 or not whitening.dims:
        return pairs
    white = cosines(whitening(vectors), pairs.i, pairs.j)
    if white.std() < 1e-6:
        return pairs
    return Pairs.of(pairs.i, pairs.j, np.polyval(np.polyfit(white, pairs.score, 1), white), pairs.left_out)


def _components(x: np.ndarray, dims: int) -> np.ndarray:  # (d, at most dims)
    "The strongest principal components of centred rows, each divided by its standard deviation."
    wide = x.shape[1] > len(x)
    square = (x @ x.T if wide else x.T @ x).astype(
        np.float64
    )  # the smaller one of the two of the same spectrum
    values, turn = eigh(square, subset_by_index=(len(square) - dims, len(square) - 1))
    real = values > 1e-6 * values[-1]  # equal images span fewer directions
    values, turn = values[real], turn[:, real]
    if wide:
        turn = x.T @ turn / np.sqrt(values)
    return turn / np.sqrt(values / len(x))


def _rooted(emb: np.ndarray) -> np.ndarray:  # (n, d) float32
    "Square roots that keep the sign, scaled to length 1 in one go; rows of zeros stay."
    x = np.asarray(emb, dtype=np.float32)
    x = np.sign(x) * np.sqrt(np.abs(x))
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
