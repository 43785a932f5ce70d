from functools import partial

import numpy as np
import pytest

from imgclean.benchmark import subsets
from imgclean.benchmark.scores import Truth
from imgclean.cascade import Found
from imgclean.dataset.items import Items
from imgclean.find.calibrate import Calibration, Estimate
from imgclean.find.pairs import Pairs

# Of the shop's files, sorted.
TRUTH = Truth(("1", "2", "1", "3", "1", "4", "5", "4"), ("original", "original", "grey", *["original"] * 5))


def test_half_of_the_groups_with_all_their_images():
    chosen = [subsets.half_of_groups(TRUTH.groups, seed) for seed in range(20)]
    for ks in chosen:
        names = {TRUTH.groups[k] for k in ks}
        assert len(names) == 3 and ks == [k for k, g in enumerate(TRUTH.groups) if g in names]
    assert {k for ks in chosen for k in ks} == set(range(8)) and len({tuple(ks) for ks in chosen}) > 5
    assert chosen[0] == subsets.half_of_groups(TRUTH.groups, 0)


def test_promise_and_truth_of_each_subset(shop, monkeypatch):
    "A finder that takes all pairs: the promise is held where most of them are true. Nothing is embedded twice."
    items, passes = Items.from_folder(shop), []
    monkeypatch.setattr(subsets, "default_learner", partial(subsets.default_learner, size=64))
    everything = subsets.embed(subsets.default_learner(items), items, progress=False).vectors

    def embed(learn, some, **kw):
        passes.append(len(some))
        return subsets_embed(learn, some, **kw)

    def find(vectors, some, look, *, min_precision, progress, seed):
        n, whole = len(some), [items.paths.index(path) for path in some.paths]
        np.testing.assert_array_equal(vectors, everything[whole])
        assert look(some.subset([0]))[0].shape == (1, vectors.shape[1])
        i, j = np.tril_indices(n, -1)
        one = Estimate(0.9, 0.8, 1.0)
        learnt = Calibration(0.5, min_precision, one, one, {}, *[np.ones(1)] * 3)
        pairs = Pairs.of(i, j, np.ones(len(i)))
        return Found(pairs, [], pairs, 0.5, learnt, {})

    subsets_embed = subsets.embed
    monkeypatch.setattr(subsets, "embed", embed)
    monkeypatch.setattr(subsets, "find_duplicates", find)
    found = subsets.check_subsets(items, TRUTH, 0.25, 4)
    assert passes == [8, *[1] * 4] and found["n"] == 4
    for seed, row in enumerate(found["rows"]):
        groups = [TRUTH.groups[k] for k in subsets.half_of_groups(TRUTH.groups, seed)]
        true, n = sum(groups.count(g) * (groups.count(g) - 1) // 2 for g in set(groups)), len(groups)
        assert row["pairs"] == n * (n - 1) // 2 and row["precision"] == pytest.approx(
            2 * true / n / (n - 1), abs=1e-4
        )
        assert row["recall"] == (1 if true else None) and row["held"] == (2 * true / n / (n - 1) >= 0.25)
        assert row["recall_of_originals"] == (1 if "1" in groups else None)
        assert row["expected_recall"] == [0.9, 0.8, 1.0]
    assert found["held"] == sum(row["held"] for row in found["rows"]) and 0 < found["held"] < 4
    assert found["mean_recall"] == 1 and found["mean_expected_precision"] == 0.9


def test_halves_that_are_done_are_not_done_again(shop, tmp_path, monkeypatch):
    items, asked = Items.from_folder(shop), []
    monkeypatch.setattr(subsets, "commit", lambda: "c0ffee")

    def rows(items, truth, min_precision, seeds):
        asked.append(list(seeds))
        for seed in seeds:
            yield seed, dict.fromkeys(("held", "precision", "recall", "expected_precision"), seed) | {
                "recall_of_originals": None, "expected_recall": [0.5, 0.4, 0.6]
            }  # fmt: skip

    monkeypatch.setattr(subsets, "_rows", rows)
    kept = tmp_path / "rows.jsonl"
    first = subsets.check_subsets(items, TRUTH, 0.9, 2, kept)
    with kept.open("a") as f:
        f.write('{"items": "a line that was cut')
    again = subsets.check_subsets(items, TRUTH, 0.9, 4, kept)
    assert again["rows"][:2] == first["rows"] and [row["precision"] for row in again["rows"]] == [0, 1, 2, 3]
    assert subsets.check_subsets(items, TRUTH, 0.8, 2, kept)["n"] == 2  # another promise is another run
    subsets.check_subsets(items.subset([0, 1]), TRUTH, 0.9, 1, kept)  # and so are other images
    monkeypatch.setattr(subsets, "commit", lambda: "decaf")
    subsets.check_subsets(items, TRUTH, 0.9, 1, kept)
    assert asked == [[0, 1], [2, 3], [0, 1], [0], [0]]
    assert subsets.check_subsets(items, TRUTH, 0.9, 1) and asked[-1] == [0]  # without a file nothing is kept


def test_a_promise_on_pictures(shop):
    found = subsets.check_subsets(Items.from_folder(shop), TRUTH, 0.99, 1)
    (row,) = found["rows"]
    assert row["images"] == len(subsets.half_of_groups(TRUTH.groups, 0)) and row["recall"] == 1
