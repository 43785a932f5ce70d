import numpy as np
import pytest
from brute import check_pairs, cosines, lower
from hypothesis import given, settings
from hypothesis import strategies as st

from imgclean.find import lsh
from imgclean.find.groups import group_pairs
from imgclean.find.lsh import LSHIndex


def relu_vectors(n=600, d=48, seed=0, copies=0):
    "Rows in clusters, all on one side of the origin, the last `copies` near copies of the first."
    rng = np.random.default_rng(seed)
    centres = rng.normal(0.3, 1, (8, d))
    x = np.maximum(centres[rng.integers(0, 8, n)] + 0.7 * rng.normal(size=(n, d)) + 0.5, 0)
    if copies:
        x[-copies:] = x[:copies] + 0.03 * rng.normal(size=(copies, d))
    return x


def index_of(x, *args, **kwargs):
    index = LSHIndex(*args, **kwargs)
    index.add(x)
    return index


def slow_codes(index, x):
    "Bit by bit, as the article describes it: above or below each plane."
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    planes = index.planes.reshape(x.shape[1], index.n_tables, index.n_bits)
    return [
        [
            sum(int((row - index.mean) @ planes[:, t, b] > 0) << b for b in range(index.n_bits))
            for t in range(index.n_tables)
        ]
        for row in unit
    ]


@pytest.mark.parametrize(("n_bits", "width"), [(5, 1), (10, 2), (17, 4), (40, 8), (64, 8)])
def test_codes_are_the_sides_of_the_planes_packed_into_the_smallest_integer(n_bits, width):
    x = relu_vectors(40)
    index = index_of(x, n_bits, 3)
    assert index.codes.itemsize == width
    slow = np.array(slow_codes(index, x), dtype=np.uint64)
    wrong = np.count_nonzero(slow != index.codes.T)
    assert wrong <= 1  # a row may lie in a plane but for the rounding


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 6), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_candidate_pairs_are_those_that_share_a_bucket_and_reach_the_similarity(seed, n, n_bits, n_tables):
    x = relu_vectors(n, 6, seed, copies=n // 4)
    index = index_of(x, n_bits, n_tables, seed=seed)
    shared = (index.codes[:, :, None] == index.codes[:, None, :]).any(0)
    found = index.candidate_pairs(min_similarity=0.9, max_pairs=10**6)
    check_pairs(found, np.where(shared, lower(cosines(x)), -1), 0.9)
    assert found.left_out == 0  # a pair of several tables counts once


@pytest.mark.parametrize("small", [1, 4, 256])
def test_large_and_small_buckets_give_the_same_pairs(small, monkeypatch):
    x = relu_vectors(copies=60)
    expected = index_of(x).candidate_pairs(min_similarity=0.8, max_pairs=10**6)
    monkeypatch.setattr(lsh, "SMALL", small)
    monkeypatch.setattr(lsh, "AT_ONCE", 5000)
    found = index_of(x).candidate_pairs(min_similarity=0.8, max_pairs=10**6)
    assert [p[:2] for p in sorted(found)] == [p[:2] for p in sorted(expected)] and len(found) > 60


def test_recall_grows_with_the_tables_and_one_bit_finds_nearly_all():
    x = relu_vectors(copies=100)
    sims = lower(cosines(x))
    true = set(zip(*np.nonzero(sims >= 0.95), strict=True))

    def recall(*args):
        found = index_of(x, *args).candidate_pairs(min_similarity=0.95)
        return len({(i, j) for i, j, _ in found} & true) / len(true)

    few, more, one_bit = recall(14, 1), recall(14, 12), recall(1, 12)
    assert few < more <= 1 and more > 0.9 and one_bit == 1


def test_centring_spreads_the_rows_over_the_buckets():
    x = relu_vectors(d=200) + 1
    assert index_of(x, center=False).n_candidates > 5 * index_of(x).n_candidates


def test_search_equals_brute_force_where_every_bucket_is_looked_at():
    x, rng = relu_vectors(200), np.random.default_rng(1)
    index = index_of(x)
    for _ in range(5):
        query = np.maximum(rng.normal(0.5, 1, x.shape[1]), 0)
        sims = cosines(x, query[None])[:, 0]
        found, score = index.search(query, 12, radius=10)
        np.testing.assert_array_equal(found, np.lexsort((np.arange(len(x)), -sims))[:12])
        np.testing.assert_allclose(score, sims[found], atol=2e-6)


def test_search_finds_a_row_itself_and_its_copies_by_their_bucket_alone():
    x = relu_vectors(500, copies=20)
    index = index_of(x, 6, 8)
    for k in range(20):
        found, score = index.search(x[k] * 3, 2)
        assert list(found) == [k, 480 + k] and score[0] == pytest.approx(1) and score.dtype == np.float32


def test_search_returns_all_rows_where_there_are_fewer_than_asked_for():
    x = relu_vectors(7)
    found, score = index_of(x, 30, 1).search(x[0], 50)
    assert sorted(found) == list(range(7)) and (np.diff(score) <= 0).all()


def test_rows_added_later_are_found_as_if_they_had_been_there():
    x = relu_vectors(300)
    index = index_of(x[:200])
    index.search(x[0], 1)
    index.add(x[200:].astype(np.float16))
    index.add(x[:0])
    assert len(index) == 300
    for k in (3, 250, 299):
        assert index.search(x[k], 1)[0] == [k]


def test_three_thousand_copies_are_one_group_not_four_million_pairs():
    x = np.repeat(relu_vectors(3, 16), [3000, 300, 1], axis=0)
    pairs = index_of(x, n_tables=2).candidate_pairs(min_similarity=0.99)
    assert len(pairs) < 12 * len(x) and pairs.left_out > 3000 * 2999 // 2 - 11 * len(x)
    groups = group_pairs(pairs, lambda k: {"width": 1, "height": 1, "bytes": 1})
    assert sorted(len(g) for g in groups) == [300, 3000]


def test_rows_of_zeros_are_nobodys_neighbours():
    x = relu_vectors(30)
    x[[4, 9]] = 0
    index = index_of(x)
    assert len(index) == 30
    assert not {4, 9} & set(index.search(x[0], 30)[0].tolist())
    pairs = index.candidate_pairs(min_similarity=-1)
    assert not {4, 9} & set(np.concatenate([pairs.i, pairs.j]).tolist())
    assert len(index_of(np.zeros((5, 3))).candidate_pairs()) == 0


def test_save_and_load_give_the_same_index(tmp_path):
    x = relu_vectors(100)
    index = index_of(x, 12, 3, seed=5)
    index.save(tmp_path / "my.index")
    again = LSHIndex.load(tmp_path / "my.index")
    assert repr(again) == repr(index)
    assert list(again.candidate_pairs()) == list(index.candidate_pairs())
    for one in (index, again):
        one.add(x[:10] + 0.1)
    np.testing.assert_array_equal(again.codes, index.codes)
    np.testing.assert_array_equal(again.search(x[7], 5), index.search(x[7], 5))


def test_an_empty_index_has_no_pairs_and_can_be_saved(tmp_path):
    LSHIndex().save(tmp_path / "empty")
    assert len(LSHIndex.load(tmp_path / "empty").candidate_pairs()) == 0
    with pytest.raises(ValueError, match="index is empty"):
        LSHIndex().search(np.ones(3), 1)


def test_the_same_seed_gives_the_same_index():
    x = relu_vectors(50)
    np.testing.assert_array_equal(index_of(x).codes, index_of(x).codes)
    assert (index_of(x, seed=1).codes != index_of(x).codes).any()


@pytest.mark.parametrize(
    ("args", "message"),
    [({"n_bits": 0}, "1 to 64"), ({"n_bits": 65}, "1 to 64"), ({"n_tables": 0}, "one table")],
)
def test_wrong_settings_are_refused(args, message):
    with pytest.raises(ValueError, match=message):
        LSHIndex(**args)


def test_wrong_input_is_refused():
    x = relu_vectors(20, 8)
    index = index_of(x)
    for query, message in (
        (np.ones(5), r"shape \(5,\)"),
        (np.ones((1, 8)), r"shape \(1, 8\)"),
        (np.zeros(8), "all zeros"),
        (np.full(8, np.nan), "NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=message):
            index.search(query, 1)
    with pytest.raises(ValueError, match="k is 0"):
        index.search(x[0], 0)
    with pytest.raises(ValueError, match="5 numbers"):
        index.add(np.ones((2, 5)))
    with pytest.raises(ValueError, match="embedding 3 holds NaN"):
        index.add(np.where(np.arange(20)[:, None] == 3, np.inf, x))
    with pytest.raises(ValueError, match="between -1 and 1"):
        index.candidate_pairs(min_similarity=2)
    with pytest.raises(ValueError, match="at least one pair"):
        index.candidate_pairs(max_pairs=0)
    assert len(index) == 20
