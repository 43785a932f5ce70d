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
