from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgclean.dataset.items import Items
from imgclean.find.groups import Group
from imgclean.find.splits import in_valid, leak_free_column, leak_free_splitter


def dataset(labels, label_of_folder=True):
    paths = tuple(
        Path(f"data/{label if label_of_folder else 'all'}/{k}.jpg") for k, label in enumerate(labels)
    )
    return Items(paths, tuple(labels), (None,) * len(paths), Path("data"))


def random_groups(rng, n, share=0.4, largest=6):
    "Disjoint groups of about `share` of `n` items."
    ks, groups = rng.permutation(n)[: int(share * n)].tolist(), []
    while len(ks) > 1:
        size = int(rng.integers(2, largest + 1))
        groups.append(tuple(ks[:size]))
        ks = ks[size:]
    return [g for g in groups if len(g) > 1]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(30, 300),
    valid_pct=st.floats(0.1, 0.5),
    n_labels=st.integers(1, 6),
)
def test_no_group_is_parted_and_sizes_are_those_that_were_asked_for(seed, n, valid_pct, n_labels):
    rng = np.random.default_rng(seed)
    labels = [f"c{k}" for k in rng.integers(0, n_labels, n)]
    groups = random_groups(rng, n)
    train, valid = leak_free_splitter(groups, valid_pct, labels, seed)(range(n))
    assert sorted(train + valid) == list(range(n))
    assert all(len({k in set(valid) for k in group}) == 1 for group in groups)
    largest = max(map(len, groups), default=1)
    assert abs(len(valid) - valid_pct * n) <= largest
    wanted, got = Counter(labels), Counter(labels[k] for k in valid)
    assert all(abs(got[c] - valid_pct * wanted[c]) <= largest for c in wanted)


def test_many_small_classes_do_not_add_up_to_another_size():
    labels = [f"c{k // 7}" for k in range(700)]  # 1.4 images of each of 100 classes are wanted
    chosen = in_valid(labels, [], 0.2, np.random.default_rng(0))
    counts = Counter(np.array(labels)[chosen].tolist())
    assert abs(chosen.sum() - 140) <= 1 and set(counts.values()) <= {1, 2} and len(counts) == 100


def test_shares_are_near_where_labels_are_rare():
    rng = np.random.default_rng(1)
    labels = ["rare"] * 50 + ["common"] * 2000
    chosen = in_valid(labels, random_groups(rng, 2050), 0.2, rng)
    assert chosen[:50].mean() == pytest.approx(0.2, abs=0.02) and chosen.mean() == pytest.approx(
        0.2, abs=0.001
    )


def test_duplicates_are_no_more_frequent_in_one_set():
    rng = np.random.default_rng(2)
    groups = random_groups(rng, 4000)
    chosen = in_valid([""] * 4000, groups, 0.25, rng)
    of_groups = np.mean([chosen[group[0]] for group in groups])
    assert of_groups == pytest.approx(0.25, abs=0.02)


def test_groups_of_two_labels_count_for_both():
    labels = ["cat", "dog"] * 50
    groups = [(k, k + 1) for k in range(0, 100, 2)]
    chosen = in_valid(labels, groups, 0.2, np.random.default_rng(0))
    assert chosen[::2].sum() == chosen[1::2].sum() == 10


def test_groups_that_share_an_item_stay_together():
    column = leak_free_column(dataset(["a"] * 10), [(0, 1), (1, 2), (2, 3)], 0.4)
    assert len(set(column[:4])) == 1 and Counter(column) == {"valid": 4, "train": 6}


def test_the_same_seed_gives_the_same_split_and_another_one_another():
    ds = dataset(["a", "b"] * 50)
    first, again, other = (leak_free_splitter([(0, 2)], seed=s)(ds) for s in (1, 1, 2))
    assert first == again != other


def test_the_column_says_what_the_splitter_does_and_goes_into_the_dataset():
    ds = dataset(["a", "b"] * 20)
    groups = [Group((0, 2, 4)), Group((1, 3))]
    for group in groups:
        group.dataset = ds.key()
    train, valid = leak_free_splitter(groups)(ds)
    column = leak_free_column(ds, groups)
    assert [k for k, split in enumerate(column) if split == "valid"] == valid
    assert leak_free_splitter(groups)(list(ds.paths)) == (train, valid)  # labels are the folders' names
    assert leak_free_splitter(groups)(pd.DataFrame({"label": ds.labels})) == (train, valid)
    assert leak_free_splitter(groups, stratify=ds.labels)(list(ds.paths)) == (train, valid)


def test_stratified_or_not():
    ds = dataset(["rare"] * 5 + ["common"] * 95)

    def rare(seed, stratify):
        return sum(k < 5 for k in leak_free_splitter([], 0.2, stratify, seed)(ds)[1])

    assert {rare(seed, True) for seed in range(20)} <= {1, 2}  # one is the rare label's share
    assert len({rare(seed, False) for seed in range(20)}) > 2


@pytest.mark.parametrize("valid_pct", [0, 1, -0.1, 20, float("nan")])
def test_shares_that_are_none_are_refused(valid_pct):
    with pytest.raises(ValueError, match="between 0 and 1"):
        leak_free_splitter([], valid_pct)


def test_other_items_are_refused():
    ds = dataset(["a"] * 10)
    group = Group((0, 1))
    group.dataset = ds.key()
    with pytest.raises(ValueError, match="in another order"):
        leak_free_splitter([group])(list(ds.paths)[::-1])
    with pytest.raises(ValueError, match="name item 12, but there are 10"):
        leak_free_splitter([(3, 12)])(ds)
    with pytest.raises(ValueError, match="name item -1"):
        leak_free_splitter([(3, -1)])(ds)


def test_rows_of_a_table_are_found_by_name(tmp_path):
    "Also where the table has another order, and a row whose file could not be read."
    from types import SimpleNamespace

    names = [f"{label}/{k}.jpg" for label in "ab" for k in range(12)]
    items = Items(tuple(tmp_path / n for n in names), tuple(n[0] for n in names), (None,) * 24, tmp_path)
    groups = [[k, k + 1] for k in range(0, 24, 2)]
    leaks = SimpleNamespace(items=items, duplicates=groups)
    table = pd.DataFrame({"name": [*names, "a/broken.jpg"], "label": [*(n[0] for n in names), "a"]})
    for seed in range(5):
        mixed = table.sample(frac=1, random_state=seed)
        side = dict(zip(mixed["name"], leak_free_column(mixed, leaks, 0.4), strict=True))
        assert all(side[names[i]] == side[names[j]] for i, j in groups) and len(set(side.values())) == 2
    with pytest.raises(ValueError, match=r"the table has no row for a/3\.jpg; give the one"):
        leak_free_column(table.drop(3), leaks)
    with pytest.raises(ValueError, match="the table names an image twice"):
        leak_free_column(pd.concat([table, table]), leaks)
    with pytest.raises(ValueError, match="columns file, label; give one with the column name"):
        leak_free_column(table.rename(columns={"name": "file"}), leaks)


def test_absent_labels_are_refused_unless_nothing_is_stratified():
    ds = dataset(["a"] * 9 + [None], label_of_folder=False)
    with pytest.raises(ValueError, match="1 of 10 images have no label"):
        leak_free_splitter([])(ds)
    with pytest.raises(ValueError, match="10 of 10 images have no label"):
        leak_free_splitter([])(pd.DataFrame({"name": range(10)}))
    with pytest.raises(ValueError, match="3 labels for 10 items"):
        leak_free_splitter([], stratify=["a"] * 3)(ds)
    train, valid = leak_free_splitter([], stratify=False)(ds)
    assert len(train) == 8 and len(valid) == 2


def test_a_set_that_would_be_empty_is_refused():
    with pytest.raises(ValueError, match="10 images in 1 groups leave one set empty"):
        leak_free_splitter([tuple(range(10))])(dataset(["a"] * 10))
