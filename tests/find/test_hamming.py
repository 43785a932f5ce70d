from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgclean.find import hamming
from imgclean.find.hamming import hamming_pairs


@st.composite
def hashes(draw):
    n, n_bytes = draw(st.integers(0, 70)), draw(st.integers(1, 17))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found = rng.integers(0, 256, (n, n_bytes), dtype=np.uint8)
    if n:
        found[rng.integers(0, n, n // 2)] = found[0] ^ (rng.random((n // 2, n_bytes)) < 0.2)
    return found


@settings(deadline=None, max_examples=50)
@given(hashes(), st.integers(0, 40), st.sampled_from([7, 1024]))
def test_pairs_equal_counting_bits_one_by_one(h, most, block):
    with patch.object(hamming, "BLOCK", block):
        pairs = hamming_pairs(h, most, max_pairs=10**6)
    bits = np.unpackbits(h, axis=1)
    expected = [(i, j, -float((bits[i] != bits[j]).sum())) for i in range(len(h)) for j in range(i)]
    expected = sorted((p for p in expected if -p[2] <= most), key=lambda p: (-p[2], p[0], p[1]))
    assert list(pairs) == expected and pairs.left_out == 0


def test_numpy_1_counts_the_same_bits():
    import importlib

    words = np.random.default_rng(0).integers(0, 2**63, (20, 30), dtype=np.uint64)
    bitwise_count, expected = np.bitwise_count, np.bitwise_count(words)
    del np.bitwise_count
    try:
        np.testing.assert_array_equal(importlib.reload(hamming).count_bits(words), expected)
    finally:
        np.bitwise_count = bitwise_count
        importlib.reload(hamming)


def test_equal_hashes_give_one_group_not_n_squared_pairs():
    pairs = hamming_pairs(np.zeros((3000, 8), dtype=np.uint8), 4)
    assert 30_000 <= len(pairs) < 33_000 and pairs.left_out == 3000 * 2999 // 2 - len(pairs)
    assert (pairs.score == 0).all()


@pytest.mark.parametrize(
    ("hashes", "args", "message"),
    [
        (np.zeros((2, 8)), {"max_distance": 1}, "uint8"),
        (np.zeros(8, dtype=np.uint8), {"max_distance": 1}, r"\(n, n_bytes\)"),
        (np.zeros((2, 8), dtype=np.uint8), {"max_distance": -1}, "0 or more bits"),
        (np.zeros((2, 8), dtype=np.uint8), {"max_distance": 1, "max_pairs": 0}, "at least one pair"),
    ],
)
def test_wrong_input_is_refused(hashes, args, message):
    with pytest.raises(ValueError, match=message):
        hamming_pairs(hashes, **args)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 40), st.integers(0, 30), st.integers(0, 2**32 - 1), st.sampled_from([7, 1024]))
def test_oriented_pairs_equal_turning_one_after_the_other(n, most, seed, block):
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2**63, (n, 8), dtype=np.uint64)
    for k in range(1, n, 2):  # the one before, turned and with some bits changed
        words[k] = np.roll(words[k - 1], k) ^ (np.uint64(1) << rng.integers(0, 64, 8, dtype=np.uint64))
    among = rng.random(n) < 0.8
    with patch.object(hamming, "BLOCK", block):
        pairs = hamming.oriented_pairs(words, most, among=among, max_pairs=10**6)
    expected = []
    for i in range(n):
        for j in range(i):
            apart = min(bin(int(words[i, 0]) ^ int(w)).count("1") for w in words[j])
            if apart <= most and among[i] and among[j]:
                expected.append((i, j, 1 - apart / 64))
    assert list(pairs) == sorted(expected, key=lambda p: (-p[2], p[0], p[1]))


def test_equal_oriented_hashes_are_one_group_not_n_squared_pairs():
    pairs = hamming.oriented_pairs(np.zeros((3000, 8), dtype=np.uint64), 6)
    assert len(pairs) < 33_000 and pairs.left_out == 3000 * 2999 // 2 - len(pairs)
    assert (pairs.score == 1).all()


def test_wrong_oriented_hashes_are_refused():
    for wrong in (np.zeros((2, 8)), np.zeros((2, 4), dtype=np.uint64), np.zeros(8, dtype=np.uint64)):
        with pytest.raises(ValueError, match=r"give \(n, 8\) uint64"):
            hamming.oriented_pairs(wrong, 1)
    with pytest.raises(ValueError, match="0 or more bits"):
        hamming.oriented_pairs(np.zeros((2, 8), dtype=np.uint64), -1)
