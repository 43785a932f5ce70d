"""What a Learner predicts, beside fastai's own get_preds."""

import numpy as np
import pytest
import torch
from fastai.vision.all import (
    BCEWithLogitsLossFlat,
    CategoryBlock,
    ClassificationInterpretation,
    ColReader,
    DataBlock,
    FuncSplitter,
    ImageBlock,
    Learner,
    MultiCategoryBlock,
    RandomResizedCrop,
    aug_transforms,
    get_image_files,
    parent_label,
)
from pictures import write_pictures
from torch import nn

from imgclean.dataset.items import Items
from imgclean.features.predictions import interpreted, predict, split_of


def net(n_out: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, n_out))  # fmt: skip


@pytest.fixture
def learn(shop):
    "Three images of each class for training, augmented and shuffled, one for validation."
    block = DataBlock(
        (ImageBlock, CategoryBlock), get_items=get_image_files, get_y=parent_label,
        splitter=FuncSplitter(lambda path: path.stem == "d"), item_tfms=RandomResizedCrop(32, min_scale=0.2),
        batch_tfms=aug_transforms(),
    )  # fmt: skip
    return Learner(block.dataloaders(shop, bs=4), net(2))


def test_predictions_are_those_of_get_preds_in_the_items_order(learn):
    items = Items.from_dls(learn.dls)
    seen = predict(learn, items, losses=True, bs=3, progress=False)
    assert seen.items == items and seen.classes == ("cat", "dog") and not seen.several
    paths = list(items.paths)
    with learn.no_bar():
        dl = learn.dls.test_dl(paths, with_labels=True)
        probs, _, losses = learn.get_preds(dl=dl, with_loss=True)
    np.testing.assert_allclose(seen.probs, probs, atol=1e-5)
    np.testing.assert_allclose(seen.losses, losses, atol=1e-5)
    again = predict(learn, items, losses=True, progress=False)  # nothing at random
    np.testing.assert_allclose(seen.probs, again.probs, atol=1e-5)


def test_the_learner_is_left_as_it_was(learn):
    items = Items.from_dls(learn.dls)
    learn.model.train()
    learn.model[1].eval()  # a frozen part
    modes = [m.training for m in learn.model.modules()]
    before, state = (
        {**vars(learn), "cbs": learn.cbs.copy()},
        {k: v.clone() for k, v in learn.model.state_dict().items()},
    )
    predict(learn, items, losses=True, progress=False)
    assert vars(learn) == before
    assert [m.training for m in learn.model.modules()] == modes
    assert all((v == state[k]).all() for k, v in learn.model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in learn.model.modules())
    assert learn.loss_func.reduction == "mean"


def test_files_that_cannot_be_read_are_left_out(learn, tmp_path):
    write_pictures(tmp_path / "new", ["1.png", "3.png"], [1, 2])
    (tmp_path / "new" / "2.png").write_bytes(b"no picture")
    seen = predict(learn, Items.from_folder(tmp_path / "new"), progress=False)
    assert [p.name for p in seen.items.paths] == ["1.png", "3.png"] and len(seen.probs) == 2
    assert [bad.path.name for bad in seen.items.unreadable] == ["2.png"]
    with pytest.raises(ValueError, match="no images that can be read"):
        only_bad = Items.from_folder(tmp_path / "new").subset([1])
        predict(learn, only_bad, progress=False)


def test_a_learner_of_several_labels(shop):
    import pandas as pd

    files = sorted(get_image_files(shop))
    df = pd.DataFrame({"path": files, "tags": ["a b", "b", "a", "", "b", "a", "b a", "c"]})
    block = DataBlock(
        (ImageBlock, MultiCategoryBlock), get_x=ColReader("path"), get_y=ColReader("tags", label_delim=" "),
        splitter=lambda df: ([*range(5), 7], [5, 6]),
    )  # fmt: skip
    learn = Learner(block.dataloaders(df, path=shop, bs=2), net(3))
    items = Items.from_dls(learn.dls)
    seen = predict(learn, items, losses=True, progress=False)
    assert seen.several and seen.classes == ("a", "b", "c")
    with learn.no_bar():
        probs, _, losses = learn.get_preds(ds_idx=1, with_loss=True)
    np.testing.assert_allclose(seen.probs[6:], probs, atol=1e-5)
    np.testing.assert_allclose(seen.losses[6:], losses, atol=1e-5)
    learn.loss_func = nn.BCEWithLogitsLoss()  # has no activation of its own
    np.testing.assert_allclose(predict(learn, items, progress=False).probs, seen.probs, atol=1e-6)


def test_a_plain_loss_gets_the_activation_of_its_kind(learn):
    items = Items.from_dls(learn.dls)
    fastais = predict(learn, items, losses=True, progress=False)
    learn.loss_func = nn.CrossEntropyLoss()
    seen = predict(learn, items, losses=True, progress=False)
    np.testing.assert_allclose(seen.probs, fastais.probs, atol=1e-6)
    np.testing.assert_allclose(seen.losses, fastais.losses, atol=1e-6)


def test_a_loss_that_knows_no_reduction_sees_one_image_at_a_time(learn):
    class Own(nn.Module):
        def forward(self, raw, targets):
            return nn.functional.cross_entropy(raw, targets)

    items = Items.from_dls(learn.dls)
    fastais = predict(learn, items, losses=True, progress=False).losses
    losses = [
        Own(),
        lambda raw, targets: Own()(raw, targets),
        lambda raw, targets, **ignored: Own()(raw, targets),
    ]
    for learn.loss_func in losses:
        before = learn.loss_func
        seen = predict(learn, items, losses=True, progress=False)
        np.testing.assert_allclose(seen.losses, fastais, atol=1e-5)
        assert learn.loss_func is before

    def broken(raw, targets):
        raise TypeError("no such thing")

    learn.loss_func = broken
    with pytest.raises(TypeError, match="no such thing"):
        predict(learn, items, losses=True, progress=False)


def test_an_interpretation_brings_its_own_losses(learn):
    with learn.no_bar():
        interp = ClassificationInterpretation.from_learner(learn)
    interp.losses = interp.losses + 1
    seen = interpreted(interp, progress=False)
    assert list(seen.items.paths) == list(learn.dls.valid_ds.items)
    np.testing.assert_allclose(seen.losses, interp.losses)
    assert len(split_of(Items.from_dls(learn.dls), "valid")) == 2


def test_what_does_not_fit_is_refused_in_one_sentence(learn, shop):
    items = Items.from_dls(learn.dls)
    unlabelled = Items.from_paths(items.paths)
    strange = Items(items.paths, ("cow",) * len(items), items.splits, items.root)

    def without_loss():
        learn.loss_func = None
        return predict(learn, items)

    def with_three_outputs():
        learn.model = net(3)
        return predict(learn, items, progress=False)

    def without_classes():
        learn.loss_func = BCEWithLogitsLossFlat()
        learn.dls.vocab = None
        return predict(learn, items)

    for kind, message, call in [
        (TypeError, "got a str; give a fastai Learner", lambda: predict("learner", items)),
        (ValueError, "8 of 8 images have no label", lambda: predict(learn, unlabelled, losses=True)),
        (ValueError, "does not know the label 'cow'; it knows cat, dog", lambda: predict(learn, strange, losses=True)),
        (ValueError, r"returns \(3,\) numbers an image for 2 classes", with_three_outputs),
        (ValueError, "has no loss_func", without_loss),
        (ValueError, "knows no classes", without_classes),
    ]:  # fmt: skip
        with pytest.raises(kind, match=message) as err:
            call()
        assert "\n" not in str(err.value)


def test_a_learner_can_be_trained_and_asked_afterwards(learn):
    predict(learn, Items.from_dls(learn.dls), progress=False)
    assert all(cb.learn is learn for cb in learn.cbs)
    with learn.no_logging():
        learn.get_preds(ds_idx=1)
        learn.fit(1)
        ClassificationInterpretation.from_learner(learn)


@pytest.mark.parametrize("kind", [int, float, bool])
def test_classes_may_be_numbers(shop, kind):
    import pandas as pd
    from fastai.vision.all import ImageDataLoaders, Resize

    table = pd.DataFrame(
        {
            "name": [f"cat/{k}.jpg" for k in "abcd"],
            "label": [kind(k % 2) for k in range(4)],
            "v": [False, False, True, True],
        }
    )
    dls = ImageDataLoaders.from_df(
        table,
        shop,
        label_col="label",
        valid_col="v",
        item_tfms=Resize(32),
        bs=2,
        num_workers=0,
        y_block=CategoryBlock,
    )
    items = Items.from_dls(dls)
    seen = predict(Learner(dls, net(2)), items, losses=True, progress=False)
    assert set(items.labels) <= set(seen.classes) == {str(kind(0)), str(kind(1))} and len(seen.losses) == 4
