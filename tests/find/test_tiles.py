import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgclean.find.tiles import Rows, n_tiles, tiles


@settings(deadline=None)
@given(st.integers(0, 70), st.integers(1, 30), st.one_of(st.none(), st.integers(0, 70)))
def test_tiles_cover_every_entry_once(n, block, m):
    seen = np.zeros((n, n if m is None else m), dtype=int)
    work = [*tiles(n, block, m)]
    assert len(work) == n_tiles(n, block, m)
    for tile in work:
        part = np.ones((tile.a_end - tile.a, tile.b_end - tile.b), dtype=int)
        seen[tile.a : tile.a_end, tile.b : tile.b_end] += np.tril(part, -1) if tile.diagonal else part
    expected = np.tril(np.ones_like(seen), -1) if m is None else np.ones_like(seen)
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8])
def test_rows_have_length_one_and_zeros_are_left_out(dtype):
    x = np.random.default_rng(0).integers(1, 9, (7, 5)).astype(dtype)
    x[[0, 3]] = 0
    rows = Rows(x)
    assert len(rows) == 5 and rows.n == 7
    np.testing.assert_array_equal(rows.numbers(np.arange(5)), [1, 2, 4, 5, 6])
    expected = x[rows.numbers(np.arange(5))].astype(np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(rows.take(slice(None)), expected, atol=1e-6)
    np.testing.assert_allclose(rows.block(1, 4), expected[1:4], atol=1e-6)
    np.testing.assert_allclose(rows.take(np.array([4, 0])), expected[[4, 0]], atol=1e-6)


def test_blocks_are_remembered_up_to_a_size():
    rows = Rows(np.ones((100, 10), dtype=np.float32))
    rows.recent.room = 3 * 10 * 10 * 4
    first = rows.block(0, 10)
    for a in range(10, 40, 10):
        rows.block(a, a + 10)
    assert len(rows.recent.blocks) == 3 and rows.block(0, 10) is not first


def test_what_is_no_matrix_of_numbers_is_refused():
    with pytest.raises(ValueError, match="one row an image"):
        Rows(np.zeros(4))
    with pytest.raises(ValueError, match="give real numbers"):
        Rows(np.array([["a"]]))
    x = np.ones((3, 2), dtype=np.float64)
    for bad in (np.nan, np.inf, -np.inf, 1e300):  # the last is no float32
        x[1, 1] = bad
        with pytest.raises(ValueError, match="embedding 1 holds NaN or infinity"):
            Rows(x)
