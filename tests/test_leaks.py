from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.vision.all import ImageDataLoaders, Resize, vision_learner
from pictures import picture, write_pictures

from imgclean.dataset.items import Items
from imgclean.features.backbones import default_learner
from imgclean.find.cost import leak_cost
from imgclean.find.groups import Group, Groups
from imgclean.find.pairs import Pairs
from imgclean.leaks import Leaks, find_leaks, leak_report
from imgclean.review.cleaner import ImageCleaner


@pytest.fixture(scope="module")
def split_folder(tmp_path_factory):
    "Twelve pictures; three of valid and one of test are in train as well, one of them under another label, one smaller."
    root = tmp_path_factory.mktemp("split")
    names = [f"train/{label}/{k}.jpg" for label in ("cat", "dog") for k in range(3)]
    names += [
        "valid/cat/a.jpg",
        "valid/cat/b.jpg",
        "valid/dog/c.jpg",
        "valid/dog/d.jpg",
        "test/cat/x.jpg",
        "test/dog/y.jpg",
    ]
    write_pictures(root, names, [*range(6), 0, 10, 1, 4, 5, 11])
    picture(4).resize((64, 53)).save(root / "valid/dog/d.jpg")
    return root


@pytest.fixture(scope="module")
def leaks(split_folder):
    return find_leaks(split_folder, keep="valid", progress=False)


@pytest.fixture(scope="module")
def learn(split_folder):
    dls = ImageDataLoaders.from_folder(
        split_folder, train="train", valid="valid", item_tfms=Resize(64), bs=4, num_workers=0
    )
    return vision_learner(dls, "resnet18", pretrained=False, path=split_folder)


@pytest.fixture
def asked(monkeypatch, leaks):
    "What `from_similars` is asked for; it finds nothing."
    calls = []

    class Formatter:
        @classmethod
        def from_similars(cls, learn, look_at, **settings):
            calls.append((learn, look_at, settings))
            return look_at, Groups([], Pairs.of([], [], []))

    monkeypatch.setattr("imgclean.leaks.DatasetFormatter", Formatter)
    return calls


def test_leaks_are_found_across_the_splits_and_nothing_else(leaks):
    names = [tuple(sorted(leaks.items.relpath(k) for k in g)) for g in leaks.groups]
    assert sorted(names) == [
        ("test/cat/x.jpg", "train/dog/2.jpg"),
        ("train/cat/0.jpg", "valid/cat/a.jpg"),
        ("train/cat/1.jpg", "valid/dog/c.jpg"),
        ("train/dog/1.jpg", "valid/dog/d.jpg"),
    ]
    assert [leaks.items.relpath(k) for k in leaks.leaked()] == [
        "valid/cat/a.jpg",
        "valid/dog/c.jpg",
        "valid/dog/d.jpg",
    ]
    assert leaks.leaked("test", "valid") == [] and len(leaks.pairs) == 4
    assert leaks.duplicates.settings["min_precision"] == 0.99  # the second look
    table = leaks.df().set_index("name")
    assert (
        table.loc["valid/dog/c.jpg", "copy_name"] == "train/cat/1.jpg"
        and table.loc["test/cat/x.jpg", "copy_split"] == "train"
    )
    assert (
        table.loc["valid/cat/a.jpg", "grade"] == "exact" and table.loc["valid/dog/d.jpg", "grade"] != "exact"
    )


def test_they_are_reported_for_each_two_splits_and_each_label(leaks):
    rows = leaks.report().set_index(["split", "copy_in"])
    assert rows.loc["valid", "train"].tolist() == [4, 3, 0.75, 1]
    assert rows.loc["test", "train"].tolist() == [2, 1, 0.5, 1]
    assert rows.loc["test", "valid"].tolist() == [2, 0, 0, 0] and len(rows) == 3
    by_label = leaks.by_label().set_index(["split", "copy_in", "label"])
    assert by_label.loc["valid", "train", "dog"].tolist() == [2, 2, 1.0, 1]
    assert by_label.loc["valid", "train", "cat"].tolist() == [2, 1, 0.5, 0] and len(by_label) == 6
    assert str(leaks).splitlines() == [
        "3 of 4 images of valid (75.0 %) have a copy in train, 1 of them under another label; most of all dog: 2 of 2",
        "1 of 2 images of test (50.0 %) have a copy in train, 1 of them under another label; most of all cat: 1 of 1",
        "none of the 2 images of test has a copy in valid",
    ]


def test_the_groups_go_into_the_grid(leaks, tmp_path):
    assert leaks.groups.explain is leaks.duplicates.explain is not None
    cleaner = ImageCleaner(leaks.items, leaks.groups, tmp_path)
    assert all(cleaner.review.is_leak(g) for g in range(4)) and cleaner.grades != ["exact"]
    assert len(cleaner.review.groups) == 4 and cleaner.review.grade(0) == "exact"


def test_the_keeper_is_that_of_the_split_that_is_asked_for(leaks):
    splits = [[leaks.items.splits[k] for k in g] for g in leaks.groups]
    assert all(found[0] == "valid" for found in splits if "valid" in found)


def test_sources_of_every_kind_agree(split_folder, leaks, asked, learn):
    table, folders = leaks.items.df(), {name: split_folder / name for name in ("train", "valid", "test")}
    table.to_csv(split_folder / "all.csv", index=False)
    for found in (
        find_leaks(leaks.items),
        find_leaks(str(split_folder)),
        find_leaks(folders),
        find_leaks(**folders),
        find_leaks(table, root=split_folder),
        find_leaks(str(split_folder / "all.csv")),
    ):
        rows = [sorted(zip(i.paths, i.labels, i.splits, strict=True)) for i in (found.items, leaks.items)]
        assert rows[0] == rows[1]
    (split_folder / "all.csv").unlink()
    assert (
        find_leaks(learn.dls).items.splits
        == find_leaks(learn).items.splits
        == ("train",) * 6 + ("valid",) * 4
    )
    assert asked[-1][0] is learn and all(looks is items for looks, items, _ in asked[:-1])


def test_what_is_asked_of_the_search_is_passed_on(split_folder, asked, learn):
    wanted = dict(
        keep="train",
        protect=["a"],
        min_precision=0.9,
        min_similarity=None,
        num_workers=0,
        progress=False,
        cache="x",
    )
    find_leaks(split_folder, learn=learn, **wanted)
    assert asked[0][0] is learn and asked[0][2] == wanted


def by_hand(splits, labels, groups, root, pairs=()):
    n = len(splits)
    items = Items(tuple(root / f"{k}.jpg" for k in range(n)), tuple(labels), tuple(splits), root)
    i, j, score = zip(*pairs, strict=True) if pairs else ((), (), ())
    return Leaks(items, Groups([Group(g) for g in groups], Pairs.of(i, j, score)))


def test_what_has_leaked_equals_a_look_at_every_two_images(tmp_path):
    rng = np.random.default_rng(0)
    splits = rng.choice(["train", "valid", "test", None], 300, p=[0.5, 0.2, 0.2, 0.1]).tolist()
    labels = rng.choice(["a", "b", None], 300).tolist()
    order, groups = rng.permutation(300).tolist(), []
    while len(order) > 25:
        size = int(rng.integers(2, 5))
        groups.append(order[:size])
        order = order[size:]
    leaks = by_hand(splits, labels, groups, tmp_path)
    for split, by in product(("train", "valid", "test"), repeat=2):
        if split == by:
            continue
        slow = {k for g in groups for k in g for c in g if splits[k] == split and splits[c] == by}
        assert leaks.leaked(split, by) == sorted(slow)
    row = leaks.report().set_index(["split", "copy_in"]).loc["test", "valid"]
    slow = 0
    for k in leaks.leaked("test", "valid"):
        copies = [c for g in groups if k in g for c in g if splits[c] == "valid"]
        slow += labels[k] is not None and all(labels[c] not in (None, labels[k]) for c in copies)
    assert row.other_label == slow > 0
    assert leaks.by_label().query("split == 'valid'").images.sum() == sum(
        s == "valid" and label is not None for s, label in zip(splits, labels, strict=True)
    )


def test_pairs_are_those_across_splits_within_a_group(tmp_path):
    splits = ["train", "train", "valid", "valid", None]
    pairs = [(1, 0, 0.9), (2, 0, 0.8), (3, 1, 0.7), (4, 3, 0.95), (3, 2, 0.6)]
    leaks = by_hand(splits, ["a"] * 5, [(0, 1, 2), (3, 4)], tmp_path, pairs)  # 1 and 3 are in two groups
    assert [(i, j) for i, j, _ in leaks.pairs] == [(2, 0)] and leaks.grades == [None]
    assert leaks.groups == [(0, 1, 2)] and len(leaks.duplicates) == 2
    assert "1 groups, 1 pairs" in repr(leaks)


def test_any_names_of_splits_will_do(tmp_path):
    leaks = by_hand(["b", "a", "train"], [None] * 3, [(0, 1)], tmp_path)
    assert leaks.splits == ["train", "a", "b"] and leaks.leaked("b", "a") == [0]
    assert (
        str(leaks).splitlines()[2] == "1 of 1 images of b (100.0 %) have a copy in a"
        and len(leaks.by_label()) == 0
    )
    with pytest.raises(ValueError, match="no split 'valid'; the images are in train, a, b"):
        leaks.leaked()


def test_items_with_any_names_of_splits_will_do(split_folder, asked):
    items = Items.from_folder(split_folder)
    named = replace(
        items, splits=tuple({"valid": "val ", "train": "Training"}.get(s, s) for s in items.splits)
    )
    found = find_leaks(named)
    assert found.splits == ["train", "valid", "test"] and found.leaked("val", "training") == []


def test_without_two_splits_nothing_is_looked_at(tmp_path, asked):
    write_pictures(tmp_path, ["cat/1.jpg", "cat/2.jpg"], [1, 1])
    with pytest.raises(ValueError, match="none of the images has a split, so nothing can leak"):
        find_leaks(tmp_path)
    with pytest.raises(ValueError, match="all images with a split are in valid"):
        find_leaks(valid=tmp_path)
    with pytest.raises(ValueError, match="either a source"):
        find_leaks()
    with pytest.raises(ValueError, match="either a source"):
        find_leaks(tmp_path, train=tmp_path)
    with pytest.raises(TypeError, match="got a int"):
        find_leaks(3)
    assert asked == []


def test_the_cost_is_that_of_the_learners_own_answers(learn, leaks):
    learn.model.train()
    before = [m.training for m in learn.model.modules()]
    cost = leak_report(learn, leaks)
    assert [m.training for m in learn.model.modules()] == before
    predictions, targets = learn.get_preds(ds_idx=1)
    names = [path.name for path in learn.dls.valid_ds.items]
    leaked = [name in ("a.jpg", "c.jpg", "d.jpg") for name in names]
    assert cost == leak_cost((predictions.argmax(1) == targets).numpy(), leaked)
    assert (cost.reported.n, cost.unseen.n, cost.leaked.n) == (4, 1, 3)

    def wrong(predictions, targets):
        return predictions.argmax(1) != targets

    assert leak_report(learn, leaks, wrong).reported.value == pytest.approx(1 - cost.reported.value)


def test_leaks_of_another_split_of_the_same_images_are_judged_by_the_learners_own(split_folder, learn, leaks):
    "After another split, the groups of before still say what is in both."
    other = {"train": "valid", "valid": "train", "test": "test"}
    before = Leaks(replace(leaks.items, splits=tuple(other[s] for s in leaks.items.splits)), leaks.duplicates)
    assert leak_report(learn, before) == leak_report(learn, leaks)
    fewer = [k for k, path in enumerate(leaks.items.paths) if path.name != "a.jpg"]
    part = Leaks(leaks.items.subset(fewer), Groups([], Pairs.of([], [], [])))
    with pytest.raises(ValueError, match="1 of the Learner's images are not among those of the leaks"):
        leak_report(learn, part)


def test_a_learner_made_by_default_is_one_too(split_folder, leaks):
    assert leak_report(default_learner(split_folder, size=64), leaks).leaked.n == 3


def test_leaks_are_looked_for_where_none_are_given(learn, asked):
    assert leak_report(learn).leaked is None and asked[0][0] is learn


def test_learners_that_cannot_be_judged_are_refused(split_folder, learn, leaks, tmp_path, monkeypatch):
    dls = ImageDataLoaders.from_folder(
        split_folder / "train", valid_pct=0.3, item_tfms=Resize(32), bs=2, num_workers=0
    )
    lone = vision_learner(
        dls.__class__(dls[0]),
        "resnet18",
        pretrained=False,
        n_out=2,
        loss_func=torch.nn.functional.cross_entropy,
    )
    with pytest.raises(ValueError, match="no validation set"):
        leak_report(lone, leaks)
    elsewhere = replace(leaks.items, paths=tuple(tmp_path / p.name for p in leaks.items.paths))
    with pytest.raises(ValueError, match=r"\d+ of the Learner's images are not among"):
        leak_report(learn, Leaks(elsewhere, leaks.duplicates))
    monkeypatch.setattr(learn, "get_preds", lambda dl: (torch.rand(4, 2), torch.rand(4, 2)))  # several labels
    with pytest.raises(ValueError, match="give metric="):
        leak_report(learn, leaks)


def test_what_is_no_learner_no_leaks_and_no_metric_of_each_image(learn, leaks):
    with pytest.raises(TypeError, match="got a DataLoaders; give the trained fastai Learner"):
        leak_report(learn.dls, leaks)
    with pytest.raises(TypeError, match="leaks are a Groups; give what find_leaks returns"):
        leak_report(learn, leaks.groups)
    with pytest.raises(ValueError, match=r"metric returns the shape \(\) for 4 images"):
        leak_report(
            learn, leaks, lambda predictions, targets: (predictions.argmax(1) == targets).float().mean()
        )


def test_by_cosine_alone(split_folder):
    found = find_leaks(split_folder, min_similarity=0.999, progress=False)
    assert found.grades == [None] * len(found.pairs) and found.pairs.score.min() >= 0.999
    assert {"valid/cat/a.jpg", "valid/dog/c.jpg"} <= set(found.df().name) and isinstance(
        found.df(), pd.DataFrame
    )
