"""From a Learner, or from probabilities, to labels in doubt and into the grid."""

import numpy as np
import pytest
import torch
from fastai.vision.all import (
    CategoryBlock,
    DataBlock,
    FuncSplitter,
    ImageBlock,
    Learner,
    Resize,
    get_image_files,
    parent_label,
)
from torch import nn

from imgclean.dataset.items import Items
from imgclean.features.predictions import predict
from imgclean.formatter import DatasetFormatter
from imgclean.review.cleaner import ImageCleaner
from imgclean.review.corrector import PredictionsCorrector
from imgclean.review.shown import row


@pytest.fixture
def learn(shop):
    "Three images of each class for training, one for validation."
    block = DataBlock(
        (ImageBlock, CategoryBlock), get_items=get_image_files, get_y=parent_label,
        splitter=FuncSplitter(lambda path: path.stem == "d"), item_tfms=Resize(32),
    )  # fmt: skip
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 2)
    )
    return Learner(block.dataloaders(shop, bs=4), net)


def test_top_losses_are_fastais(learn):
    for ds_idx, dl in ((0, learn.dls.train), (1, learn.dls.valid)):
        ds, idxs = DatasetFormatter.from_toplosses(learn, ds_idx=ds_idx, progress=False)
        with learn.no_bar():
            _, _, losses = learn.get_preds(dl=learn.dls.test_dl(dl.items, with_labels=True), with_loss=True)
        assert list(ds.paths) == list(dl.items) and sorted(idxs) == list(range(len(ds)))
        np.testing.assert_allclose([-k.score for k in idxs], losses[list(idxs)], atol=1e-5)
        np.testing.assert_allclose([-k.score for k in idxs], sorted(losses, reverse=True), atol=1e-5)
    everything, _ = DatasetFormatter.from_toplosses(learn, progress=False)
    assert everything.splits == ("train",) * 6 + ("valid",) * 2
    few = DatasetFormatter.from_toplosses(learn, 3, progress=False)[1]
    assert len(few) == 3 and len(DatasetFormatter.from_toplosses(learn, 0, progress=False)[1]) == 8


def test_an_unlabelled_test_set_has_no_losses(learn, shop):
    learn.dls.loaders.append(learn.dls.test_dl([shop / "cat/a.jpg", shop / "dog/b.jpg"]))
    ds, idxs = DatasetFormatter.from_toplosses(learn, progress=False)
    assert ds.splits == ("train",) * 6 + ("valid",) * 2 and len(idxs) == 8


def test_top_losses_go_into_the_grid(learn, shop):
    ds, idxs = DatasetFormatter.from_toplosses(learn, progress=False)
    cleaner = ImageCleaner(ds, idxs[:5], shop, duplicates=False)
    assert [g[0] for g in cleaner.review.groups] == idxs[:5] and cleaner.single
    reason = row(cleaner.review, 0)["reason"]
    assert reason.startswith("loss ") and "model: " in reason
    cleaner.review.relabel(idxs[0], "cow")
    cleaner.review.mark(idxs[1], "delete")
    done = cleaner.apply()
    assert (done.kept, done.deleted, done.relabeled) == (7, 1, 1)
    other = Items.from_folder(shop).subset(range(7))
    with pytest.raises(ValueError, match="found in another dataset"):
        ImageCleaner(other, idxs[:1])


def test_neighbours_are_heard_through_the_learners_own_eyes(learn):
    learn.model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 2)
    )
    for by in ("neighbours", "combined", "self-confidence"):
        _, idxs = DatasetFormatter.from_toplosses(learn, by=by, progress=False)
        assert sorted(idxs) == list(range(8)) and ("neighbours: " in idxs[0].reason) == (
            by != "self-confidence"
        )


def test_the_most_unsure_of_the_validation_set_or_of_a_folder(learn, shop, tmp_path):
    ds, idxs, classes, labels = DatasetFormatter.from_most_unsure(learn, progress=False)
    assert list(ds.paths) == list(learn.dls.valid_ds.items) and classes == ["cat", "dog"] and len(labels) == 2
    unlabelled = Items.from_paths(sorted(shop.rglob("*.jpg")))
    found = DatasetFormatter.from_most_unsure(learn, 3, look_at=unlabelled, progress=False)
    ds, idxs, classes, labels = found
    probs = predict(learn, unlabelled, progress=False).probs
    margin = np.abs(probs[:, 0] - probs[:, 1])
    np.testing.assert_allclose(margin[idxs], sorted(margin)[:3], atol=1e-5)
    assert ds.labels == (None,) * 8 and [k.score for k in idxs] == sorted(k.score for k in idxs)
    assert labels == [classes[c] for c in probs.argmax(axis=1)]
    corrector = PredictionsCorrector(*found)
    corrector.review.relabel(idxs[0], other := {"cat": "dog", "dog": "cat"}[labels[idxs[0]]])
    assert corrector.corrections == {idxs[0]: other}


def test_probabilities_from_anywhere(shop):
    paths = sorted(shop.rglob("*.jpg"))
    labels = [path.parent.name for path in paths]
    probs = np.full((8, 2), 0.05) + 0.9 * np.eye(2)[[0, 1, 0, 0, 1, 1, 0, 1]]
    ds, idxs = DatasetFormatter.from_probs(probs, labels, paths)
    assert idxs[:2] == [1, 6] and ds.labels == tuple(labels) and idxs[0].reason == "model: dog 95 %, cat 5 %"
    items = Items.from_folder(shop)
    assert DatasetFormatter.from_probs(probs, None, items, n=2)[1] == [1, 6]  # the items' own labels
    assert DatasetFormatter.from_probs(probs, None, paths, "margin", classes=["cat", "dog"])[1]
    vectors = np.eye(2)[[0, 0, 0, 0, 1, 1, 0, 1]] + 0.01 * np.random.default_rng(0).normal(size=(8, 2))
    assert DatasetFormatter.from_probs(probs, None, items, "combined", vectors=vectors)[1][0] == 6
    assert ImageCleaner(ds, idxs).predicted == ["cat", "dog"]


def test_wrong_arguments_are_refused_in_one_sentence(learn, shop):
    paths, probs = sorted(shop.rglob("*.jpg")), np.full((8, 2), 0.5)
    make = DatasetFormatter
    wrong = [
        (TypeError, "got a str; give a fastai Learner", lambda: make.from_toplosses("folder")),
        (TypeError, "got a str; give a fastai Learner", lambda: make.from_most_unsure("folder")),
        (ValueError, "by is 'beauty'; give one of loss", lambda: make.from_toplosses(learn, by="beauty")),
        (ValueError, "ds_idx is 2, for which there are no images", lambda: make.from_toplosses(learn, ds_idx=2)),
        (ValueError, "-3 images are asked for", lambda: make.from_toplosses(learn, -3, progress=False)),
        (
            ValueError, "8 of 8 images have no label, and without one there is no loss",
            lambda: make.from_toplosses(learn, look_at=Items.from_paths(paths)),
        ),
        (ValueError, "there are none; give labels, or by='margin'", lambda: make.from_probs(probs, None, paths)),
        (ValueError, "7 labels for 8 images", lambda: make.from_probs(probs, [0] * 7, paths)),
        (ValueError, "shape .8,.; give one row an image", lambda: make.from_probs(probs[:, 0], [0] * 8, paths)),
        (ValueError, "one class alone", lambda: make.from_probs(probs[:, :1], [0] * 8, paths)),
        (ValueError, "8 rows for 7 images|labels for 7 images", lambda: make.from_probs(probs, [0] * 8, paths[:7])),
    ]  # fmt: skip
    for kind, message, call in wrong:
        with pytest.raises(kind, match=message) as err:
            call()
        assert "\n" not in str(err.value)
    learn.loss_func = None
    with pytest.raises(ValueError, match="has no loss_func"):
        make.from_toplosses(learn)
