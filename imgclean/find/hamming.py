"""Hamming distance of every pair of bit-packed hashes, as they are or turned: the lower triangle, exact, tile by tile."""

from __future__ import annotations

import numpy as np
import torch

from .best import Best
from .pairs import Pairs
from .tiles import tiles

BLOCK = 1024
MAX_PAIRS = 10  # pairs kept for each hash when nothing else is asked for


def hamming_pairs(
    hashes: np.ndarray,  # (n, n_bytes) uint8, bits packed as `np.packbits` does
    max_distance: int,  # bits that may differ
    *,
    max_pairs: int | None = None,  # pairs to keep at most, default 10 for each hash
) -> Pairs:
    """Pairs of hashes that differ in at most `max_distance` bits; the score is minus the number of bits.

    Where more than `max_pairs` are as close, the best are kept together with those that hold the groups
    together, and `left_out` counts the rest, as in `similar_pairs`.
    """
    hashes = np.asanyarray(hashes)
    if hashes.ndim != 2 or hashes.dtype != np.uint8:
        raise ValueError(
            f"hashes have shape {hashes.shape} and dtype {hashes.dtype}; give (n, n_bytes) uint8, bits packed"
        )
    _check(max_distance, max_pairs)
    n, limit = len(hashes), max_pairs or MAX_PAIRS * max(1, len(hashes))
    keep = Best(max(1, n), limit, -float(max_distance), forest=True, highest=0.0, rounding=0.0)
    words = as_words(hashes)
    for tile in tiles(n, BLOCK):
        apart = distances(words[tile.a : tile.a_end], words[tile.b : tile.b_end])
        keep.add_tile(tile, torch.from_numpy(np.subtract(0, apart, dtype=np.float32)))
    return keep.pairs()


def oriented_pairs(
    hashes: np.ndarray,  # (n, 8) uint64, one column an orientation, as `features.hashes` makes them
    max_distance: int,  # bits of 64 that may differ
    *,
    among: np.ndarray | None = None,  # (n,) bool: rows to compare; default: all
    max_pairs: int | None = None,  # pairs to keep at most, default 10 for each hash
) -> Pairs:
    """Pairs of pictures whose hashes differ in at most `max_distance` bits when one of the two is turned or mirrored.

    The score is the share of bits that agree, 1 for equal hashes. What is kept of many is that of `hamming_pairs`.
    """
    hashes = np.asanyarray(hashes)
    if hashes.ndim != 2 or hashes.shape[1] != 8 or hashes.dtype != np.uint64:
        raise ValueError(
            f"hashes have shape {hashes.shape} and dtype {hashes.dtype}; give (n, 8) uint64, a column an orientation"
        )
    _check(max_distance, max_pairs)
    rows = np.arange(len(hashes)) if among is None else np.flatnonzero(among)
    words, limit = hashes[rows], max_pairs or MAX_PAIRS * max(1, len(rows))
    low = 1 - max_distance / 64
    keep = Best(max(1, len(rows)), limit, low, forest=True, highest=1.0, rounding=0.0)
    for tile in tiles(len(rows), BLOCK):
        apart = nearest_orientation(words[tile.a : tile.a_end], words[tile.b : tile.b_end])
        keep.add_tile(tile, torch.from_numpy(1 - apart.astype(np.float32) / 64))
    found = keep.pairs()
    return Pairs.of(rows[found.i], rows[found.j], found.score, found.left_out)


def nearest_orientation(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # (len(a), len(b)) uint8
    "Bits in which each row of `a` differs from each of `b`, which is turned so that they are fewest."
    apart = np.full((len(a), len(b)), 64, dtype=np.uint8)
    for k in range(8):
        np.minimum(apart, count_bits(a[:, :1] ^ b[None, :, k]), out=apart)
    return apart


def _check(max_distance: int, max_pairs: int | None) -> None:
    if max_distance < 0:
        raise ValueError(f"max_distance is {max_distance}; give 0 or more bits")
    if max_pairs is not None and max_pairs < 1:
        raise ValueError(f"max_pairs is {max_pairs}; ask for at least one pair")


def as_words(hashes: np.ndarray) -> np.ndarray:  # (n, ceil(n_bytes / 8)) uint64
    "The same bits in the largest integers there are, filled up with zeros."
    n, n_bytes = hashes.shape
    padded = np.zeros((n, -(-n_bytes // 8) * 8), dtype=np.uint8)
    padded[:, :n_bytes] = hashes
    return padded.view(np.uint64)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # (len(a), len(b)) uint32
    "Bits in which each row of words `a` differs from each of `b`."
    apart = np.zeros((len(a), len(b)), dtype=np.uint32)
    for k in range(a.shape[1]):
        apart += count_bits(a[:, k, None] ^ b[None, :, k])
    return apart


if hasattr(np, "bitwise_count"):
    count_bits = np.bitwise_count
else:  # numpy 1
    BITS = np.array([bin(k).count("1") for k in range(2**16)], dtype=np.uint8)

    def count_bits(words: np.ndarray) -> np.ndarray:
        return (
            BITS[np.ascontiguousarray(words).view(np.uint16)].reshape(*words.shape, 4).sum(-1, dtype=np.uint8)
        )
