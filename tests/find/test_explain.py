import gc
import weakref

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import timm
import torch
from fastai.callback.hook import hook_output
from fastai.vision.all import Pipeline, Resize, ToTensor
from pictures import picture
from PIL import Image
from torch import nn
from torchvision.transforms import Compose
from torchvision.transforms import Resize as SquishTo
from torchvision.transforms import ToTensor as AsTensor

from imgclean.dataset.images import UnreadableImage
from imgclean.dataset.items import Items
from imgclean.features.backbones import default_learner
from imgclean.find.explain import agreeing_regions, explain_pair, explainer, pair_cams


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules())


def test_regions_that_agree_are_those_that_both_show(tmp_path):
    "The same picture in opposite halves, beside two that differ."
    for name, (left, right) in {"a": (1, 2), "b": (3, 1)}.items():
        both = Image.new("RGB", (192, 80))
        both.paste(picture(left), (0, 0))
        both.paste(picture(right), (96, 0))
        both.save(tmp_path / f"{name}.png")
    learn = default_learner(tmp_path)
    modes = [m.training for m in learn.model.modules()]
    first, second = explain_pair(tmp_path / "a.png", tmp_path / "b.png", learn)
    half = first.shape[1] // 2
    assert first[:, :half].mean() > first[:, -half:].mean()
    assert second[:, -half:].mean() > second[:, :half].mean()
    assert len(plt.gcf().axes) == 2 and len(plt.gcf().axes[0].images) == 2
    plt.close("all")
    assert hooks_of(learn.model) == 0 and [m.training for m in learn.model.modules()] == modes
    same = explain_pair(tmp_path / "a.png", tmp_path / "a.png", learn, show=False)
    assert torch.allclose(same[0], torch.ones_like(same[0]), atol=1e-4)
    (tmp_path / "c.png").write_bytes(b"")
    with pytest.raises(UnreadableImage, match="the file is empty"):
        explain_pair(tmp_path / "a.png", tmp_path / "c.png", learn)
    with pytest.raises(ValueError, match="name one that returns maps"):
        explain_pair(tmp_path / "a.png", tmp_path / "b.png", learn, "1.8")
    assert hooks_of(learn.model) == 0


@pytest.fixture
def pair(tmp_path):
    "Two wide pictures of which the left third alone is the same."
    for name, seed in {"a": 2, "b": 3}.items():
        wide = picture(seed, (240, 80))
        wide.paste(picture(1, (80, 80)), (0, 0))
        wide.save(tmp_path / f"{name}.png")
    return tmp_path / "a.png", tmp_path / "b.png"


def test_a_crop_is_shown_where_it_was_cut(pair):
    "A Learner that sees the middle third of wide pictures: that is where its maps lie."
    learn = default_learner(pair[0].parent)
    for dl in learn.dls.loaders:
        dl.after_item = Pipeline([Resize(96, method="crop"), ToTensor()])
    for region in agreeing_regions(*pair, learn):
        assert region.map.dtype == np.float32 and region.map.shape == (3, 3)
        assert region.box == pytest.approx((1 / 3, 0, 2 / 3, 1), abs=0.02)
    explain_pair(*pair, learn)
    left, right, bottom, top = plt.gcf().axes[0].images[1].get_extent()
    assert (left, right, bottom, top) == pytest.approx((80, 160, 80, 0), abs=4)
    assert plt.gcf().axes[0].get_xlim() == (0, 240)
    plt.close("all")


def test_a_module_with_its_transform_and_a_transformers_tokens(pair):
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2)
    tfm = Compose([SquishTo((64, 64)), AsTensor()])
    for region in agreeing_regions(*pair, vit, tfm=tfm):
        assert region.map.shape == (4, 4) and region.box == pytest.approx((0, 0, 1, 1), abs=0.02)
    assert hooks_of(vit) == 0 and vit.training


def test_what_the_grid_asks_keeps_no_learner_alive(pair):
    learn = default_learner(pair[0].parent)
    explain = explainer(learn, "0")
    for region, m in zip(explain(*pair), explain_pair(*pair, learn, show=False), strict=True):
        np.testing.assert_array_equal(region.map, m)
    ref = weakref.ref(learn.model)
    del learn
    gc.collect()
    assert ref() is None
    with pytest.raises(ValueError, match="is gone; keep it in a variable"):
        explain(*pair)


def test_what_was_built_for_a_folder_is_built_again_for_the_pair(pair):
    folder, built = pair[0].parent, default_learner(pair[0].parent)
    expected = explain_pair(*pair, built, show=False)
    names = [str(path) for path in pair]
    others = (names, {"train": names}, pd.DataFrame({"name": names}))
    for source in (str(folder), folder, Items.from_folder(folder), built.dls, *others):
        explain = explainer(source)
        for region, m in zip(explain(*pair), expected, strict=True):
            np.testing.assert_allclose(region.map, m, atol=1e-5)


def test_maps_of_a_siamese_pair(learn, folder):
    a, b = folder / "red/1.png", folder / "red/2.png"
    modes = [m.training for m in learn.model.modules()]
    cams = pair_cams(learn, a, b)
    assert [c.shape for c in cams] == [(2, 2)] * 2 and all((c >= 0).all() for c in cams)
    assert [m.training for m in learn.model.modules()] == modes and hooks_of(learn.model) == 0
    assert all(p.grad is None for p in learn.model.head.parameters())
    with pytest.raises(ValueError, match="the last layer sees 512 numbers and the body makes 1280 maps"):
        pair_cams(learn, a, b, "article")
    with pytest.raises(ValueError, match="method is 'lime'; give 'gradcam' or 'article'"):
        pair_cams(learn, a, b, "lime")


def test_the_articles_maps_of_a_resnet(folder):
    "resnet34 makes 512 maps, as many as the last layer has inputs."
    from imgclean.find.siamese import siamese_learner

    torch.manual_seed(0)
    learn = siamese_learner(folder, arch="resnet34", pretrained=False, size=64, num_workers=0)
    paths = folder / "red/1.png", folder / "blue/2.png"
    found = pair_cams(learn, *paths, "article")
    learn.model.eval()
    for path, cam in zip(paths, found, strict=True):
        x = Image.open(path).convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)
        x = torch.tensor(list(x.getdata())).view(64, 64, 3).permute(2, 0, 1)[None] / 255
        norm = [t for t in learn.dls.after_batch.fs if type(t).__name__ == "Normalize"]
        x = norm[0](x) if norm else x
        with hook_output(learn.model.encoder) as hook, torch.no_grad():
            learn.model.encoder(x)
        weight = learn.model.head[-1].weight.detach()
        slow = torch.einsum("ik,kjl->ijl", weight, hook.stored[0])[1]
        assert torch.allclose(cam, slow, atol=1e-3), (cam, slow)
