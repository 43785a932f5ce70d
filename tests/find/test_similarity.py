import numpy as np
import pytest

from imgclean.find.groups import group_pairs
from imgclean.find.similarity import similar_pairs


def vectors(n, d, seed=0, copies=0):
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.normal(0.2, 1, (n, d)), 0)
    for k in range(copies):
        x[-1 - k] = x[k] * rng.uniform(0.5, 2) + rng.normal(0, 0.01, d)
    return x


def brute_force(x, keep):
    "Every pair, one at a time, as the article did it."
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-8)
    triples = [(i, j, float(x[i] @ x[j])) for i in range(len(x)) for j in range(i)]
    return sorted((t for t in triples if keep(t[2])), key=lambda t: (-t[2], t[0], t[1]))


def same(pairs, triples):
    assert {(i, j) for i, j, _ in pairs} == {(i, j) for i, j, _ in triples}
    np.testing.assert_allclose(pairs.score, [s for *_, s in triples], atol=2e-6)


@pytest.mark.parametrize("block", [7, 32, 1024])
@pytest.mark.parametrize("n", [2, 31, 100])
def test_all_pairs_above_a_threshold_equal_brute_force(n, block):
    x = vectors(n, 24, seed=n, copies=n // 10)
    pairs = similar_pairs(x, min_similarity=0.55, block=block)
    same(pairs, brute_force(x, lambda s: s >= 0.55))
    assert pairs.left_out == 0


@pytest.mark.parametrize("block", [9, 1024])
def test_the_best_n_pairs_equal_brute_force(block):
    x = vectors(80, 24, copies=8)
    same(similar_pairs(x, n=50, block=block), brute_force(x, lambda s: True)[:50])
    same(similar_pairs(x, n=50, min_similarity=0.9, block=block), brute_force(x, lambda s: s >= 0.9)[:50])
    assert len(similar_pairs(x, n=10**6, block=block)) == 80 * 79 // 2


def test_block_size_does_not_change_the_answer():
    x = vectors(60, 16, copies=6)
    answers = [list(similar_pairs(x, min_similarity=0.5, block=b)) for b in (5, 60)]
    assert [p[:2] for p in answers[0]] == [p[:2] for p in answers[1]]


def test_identical_images_give_one_group_not_n_squared_pairs():
    x = np.repeat(vectors(2, 32), 600, axis=0)
    pairs = similar_pairs(x, min_similarity=0.99, max_pairs=1000, block=128)
    all_pairs = 2 * 600 * 599 // 2
    assert 1000 <= len(pairs) <= 1000 + 2 * 599 and pairs.left_out == all_pairs - len(pairs)
    groups = group_pairs(pairs, lambda k: {"width": 1, "height": 1, "bytes": 1})
    assert sorted(len(g) for g in groups) == [600, 600]


def test_left_out_pairs_never_split_a_group():
    "A chain: each vector is close to the next alone, and the best pairs lie at one end."
    angles = np.cumsum(np.linspace(0.01, 0.2, 40))
    x = np.stack([np.cos(angles), np.sin(angles)], 1)
    few, every = (similar_pairs(x, min_similarity=0.97, max_pairs=m, block=8) for m in (3, 10_000))
    assert len(few) < len(every) and few.left_out == len(every) - len(few)

    def groups(pairs):
        return [set(g) for g in group_pairs(pairs, lambda k: {"width": 1, "height": 1, "bytes": 1})]

    assert groups(few) == groups(every) == [set(range(40))]


def test_input_is_not_changed():
    x = vectors(10, 4).astype(np.float32)
    before = x.copy()
    similar_pairs(x, n=3)
    np.testing.assert_array_equal(x, before)


def test_zero_vectors_resemble_nothing():
    x = vectors(6, 8)
    x[[1, 4]] = 0
    assert not {1, 4} & {k for i, j, _ in similar_pairs(x, min_similarity=0.01) for k in (i, j)}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"min_similarity": 1.5}, "between -1 and 1"),
        ({"n": 0}, "at least one pair"),
    ],
)
def test_wrong_arguments_are_refused(args, message):
    with pytest.raises(ValueError, match=message):
        similar_pairs(vectors(4, 4), **args)


def test_wrong_vectors_are_refused():
    x = vectors(4, 4)
    x[2, 1] = np.nan
    with pytest.raises(ValueError, match="embedding 2 holds NaN"):
        similar_pairs(x, n=1)
    with pytest.raises(ValueError, match="one row an image"):
        similar_pairs(np.zeros(5), n=1)


def test_one_finds_copies_in_spite_of_rounding():
    x = np.repeat(vectors(4, 1280), 3, axis=0)
    pairs = similar_pairs(x, min_similarity=1)
    assert len(pairs) == 4 * 3 and (pairs.score == 1).all()
