"""Cosine similarity of every pair of rows: the lower triangle, exact, tile by tile, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from .best import Best
from .choose import free_memory
from .join import Join
from .nearest import Nearest
from .pairs import Pairs, check_similarity
from .tiles import ROUNDING, Rows, same_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "MAX_PAIRS", "ROUNDING", "comb_similarity", "nearest", "normalise", "plot_similarity", "similar_pairs",
    "similar_pairs_between",
]  # fmt: skip

CHUNK = 4096  # pairs whose rows are read at a time
MAX_PAIRS = 10  # pairs kept for each image when nothing else is asked for


def normalise(emb: np.ndarray) -> torch.Tensor:  # (n, d) float32
    "`emb` with rows of length 1, as a copy; raises `ValueError` for NaN or infinity, leaves zero rows zero."
    rows = Rows(emb)
    x = torch.zeros(len(rows.emb), rows.d)
    x[slice(None) if rows.number is None else rows.number] = rows.take(slice(None))
    return x


def similar_pairs(
    emb: np.ndarray,  # (n, d) float16 or float32, one row an image; may be an np.memmap larger than memory
    *,
    min_similarity: float | None = None,  # pairs with at least this cosine
    n: int | None = None,  # only the `n` best pairs
    max_pairs: int | None = None,  # pairs to keep at most, default 10 for each image
    metric: str = "cosine",  # or "euclidean": the score is minus the distance of the normalised rows
    max_distance: float | None = None,  # in place of `min_similarity`, for metric="euclidean"
    prefilter: str = "auto",  # "none", "bf16", "pca" or "pca+bf16" insist on one; the answer is the same
    block: int | None = None,  # rows of a tile; a tile takes 4 * block**2 bytes
    device: torch.device | str | None = None,  # default: cuda where there is one
    progress: bool = True,  # show how far it is, where it takes more than some seconds
) -> Pairs:
    """Pairs of rows by cosine similarity, each pair once, best first, exact up to float32 rounding.

    Where more than `max_pairs` reach `min_similarity`, the best are kept together with those that hold
    the groups together (a maximum spanning forest), and `left_out` counts the rest. Rows of zeros resemble
    nothing. Memory beside `emb` is at most 512 bytes a row, a few tiles, and the pairs. Raises `ValueError`
    for NaN or infinity. Method and measurements: docs/search.md.
    """
    low = _lowest(min_similarity, max_distance, metric)
    return _join(Rows(emb, _device(device)), None, low, n, max_pairs, metric, prefilter, block, progress)


def cosines(
    emb: np.ndarray,  # (n, d) float
    i: np.ndarray,  # (m,) int
    j: np.ndarray,  # (m,) int
    *,
    others: np.ndarray | None = None,  # (k, d): rows `j` are of these
) -> np.ndarray:  # (m,) float32
    "Cosine similarity of rows `i` and `j`, pair by pair; 0 with a row of zeros."
    found = np.empty(len(i), dtype=np.float32)
    others = emb if others is None else others
    for start in range(0, len(i), CHUNK):
        some = slice(start, start + CHUNK)
        a, b = np.asarray(emb[i[some]], np.float32), np.asarray(others[j[some]], np.float32)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        found[some] = np.clip(np.einsum("nd,nd->n", a, b) / np.maximum(norms, 1e-12), -1, 1)
    return found


def similar_pairs_between(
    a: np.ndarray,  # (n, d) float16 or float32
    b: np.ndarray,  # (m, d), from the same model and layer
    *,
    min_similarity: float | None = None,
    n: int | None = None,
    max_pairs: int | None = None,  # default 10 for each row of both
    metric: str = "cosine",
    max_distance: float | None = None,
    prefilter: str = "auto",
    block: int | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Pairs:
    """Pairs of a row of `b` and a row of `a`: train against valid, or new images against old.

    The rows of `b` count on from those of `a`: `i - len(a)` is the row of `b`, `j` the row of `a`.
    Otherwise as `similar_pairs`; raises `ValueError` where the rows of the two differ in length.
    """
    low, device = _lowest(min_similarity, max_distance, metric), _device(device)
    return _join(Rows(b, device), Rows(a, device), low, n, max_pairs, metric, prefilter, block, progress)


def nearest(
    emb: np.ndarray,  # (n, d) float16 or float32
    k: int = 10,  # neighbours of each row
    *,
    others: np.ndarray
    | None = None,  # (m, d) rows among which to look; default: `emb` itself, itself left out
    prefilter: str = "auto",
    block: int | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> tuple[np.ndarray, np.ndarray]:  # (n, k) int64 indices, (n, k) float32 cosines, nearest first
    """The `k` nearest rows of each row by cosine similarity, exact up to float32 rounding.

    Where there are fewer than `k`, and for rows of zeros, the rest is -1 with the score -inf. Of rows that
    tie for the last place, any may be returned.
    """
    if k < 1:
        raise ValueError(f"k is {k}; ask for at least one neighbour")
    device = _device(device)
    left, right = Rows(emb, device), None if others is None else Rows(others, device)
    keep = Nearest(len(left), k, both=others is None)
    join = Join(left, right, prefilter=prefilter, block=block)
    join.run(keep, progress)
    index, score = np.full((left.n, k), -1), np.full((left.n, k), -np.inf, dtype=np.float32)
    rows = left.numbers(np.arange(len(left)))
    found = keep.index >= 0
    keep.index[found] = join.other.numbers(keep.index[found])
    index[rows], score[rows] = keep.index, keep.score
    return index, score


def comb_similarity(
    t1: np.ndarray | torch.Tensor,  # (n, d)
    t2: np.ndarray | torch.Tensor,  # (m, d); the same as `t1` for the similarity of a set with itself
) -> np.ndarray:  # (n, m) float32
    """The whole matrix of cosines, with zeros on and above the diagonal where both are the same set.

    For sets small enough to look at; raises `ValueError` where the matrix would not fit into memory, for
    which `similar_pairs` needs none. Source: "How to build an image duplicate finder", F. Ingham, 2018.
    """
    t1, t2 = (np.asarray(t.detach().cpu() if isinstance(t, torch.Tensor) else t) for t in (t1, t2))
    needed = 4 * len(t1) * len(t2)
    if needed > free_memory() / 2:
        raise ValueError(
            f"a matrix of {len(t1)} by {len(t2)} similarities takes {needed / 1e9:.0f} GB, more than half of the "
            "free memory; similar_pairs gives the pairs without the matrix"
        )
    same_width(Rows(t1), Rows(t2))
    sims = (normalise(t1) @ normalise(t2).T).clamp_(-1, 1)
    return (sims.tril_(-1) if np.array_equal(t1, t2) else sims).numpy()


def plot_similarity(
    matrix: np.ndarray,  # (n, m) from `comb_similarity`
    ax: Axes | None = None,
) -> Axes:
    "The matrix as a picture, one square a pair, with a scale; drawn on `ax` or a new figure."
    import matplotlib.pyplot as plt

    ax = ax or plt.subplots()[1]
    image = ax.imshow(matrix, cmap="viridis", vmin=min(0.0, float(np.min(matrix, initial=0))), vmax=1)
    ax.figure.colorbar(image, ax=ax, label="cosine similarity")
    ax.set(xlabel="image", ylabel="image")
    return ax


def _join(left: Rows, right: Rows | None, low, n, max_pairs, metric, prefilter, block, progress) -> Pairs:
    for name, value in (("n", n), ("max_pairs", max_pairs)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; ask for at least one pair")
    shift = 0 if right is None else right.n
    total = left.n + shift
    join = Join(left, right, prefilter=prefilter, block=block)
    limit = n or max_pairs or MAX_PAIRS * max(1, total)
    keep = Best(max(1, len(left) + len(right or ())), limit, low, forest=n is None, shift=len(right or ()))
    join.run(keep, progress)
    found = keep.pairs()
    return _numbered(found, left, right, metric)


def _numbered(found: Pairs, left: Rows, right: Rows | None, metric: str) -> Pairs:
    "Pairs of the rows that were compared as pairs of the rows that were given."
    score = found.score
    if metric == "euclidean":
        score = -np.sqrt(np.maximum(2 - 2 * score, 0))
    if right is None:
        return Pairs.of(left.numbers(found.i), left.numbers(found.j), score, found.left_out)
    i = left.numbers(found.i - len(right)) + right.n
    return Pairs.of(i, right.numbers(found.j), score, found.left_out)


def _lowest(min_similarity: float | None, max_distance: float | None, metric: str) -> float:
    "The lowest cosine that is asked for."
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"metric is {metric!r}; give 'cosine' or 'euclidean', or hashes to hamming_pairs")
    if max_distance is not None:
        if metric != "euclidean" or min_similarity is not None:
            raise ValueError("max_distance goes with metric='euclidean' and without min_similarity")
        if not 0 <= max_distance <= 2:
            raise ValueError(
                f"max_distance is {max_distance}; rows of length 1 are between 0 and 2 from each other"
            )
        return 1 - max_distance**2 / 2
    if min_similarity is None:
        return -1.0
    check_similarity(min_similarity)
    return float(min_similarity)


def _device(device: torch.device | str | None) -> torch.device:
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
