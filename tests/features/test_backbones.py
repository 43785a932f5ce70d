import urllib.error

import pytest
import timm
import torch
import torchvision
from fastai.vision.all import ImageDataLoaders, Normalize, Resize, vision_learner
from pictures import write_pictures
from torch import nn

from imgclean.dataset.items import Items
from imgclean.features import backbones
from imgclean.features.backbones import (
    default_learner,
    evaluating,
    find_layer,
    layer_names,
    load_packaged_weights,
)

XB = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_packaged_weights_know_photographs(sample):
    "The whole model, with its own head: a wrongly matched tensor would make its answers worthless."
    from imgclean.dataset.images import open_image

    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    load_packaged_weights(model)
    cats = {281, 282, 283, 284, 285, 286, 287}  # ImageNet's cats, from tabby to lynx
    expected = {
        "animal/cat.jpg": cats,
        "object/coffee.jpg": {967, 968, 504},
        "vehicle/rocket.jpg": {657, 744, 812},
    }
    for name, classes in expected.items():
        im = open_image(sample.path / name).resize((224, 224))
        xb = torch.frombuffer(bytearray(im.tobytes()), dtype=torch.uint8).view(1, 224, 224, 3)
        with torch.no_grad():
            top = model(xb.permute(0, 3, 1, 2).float() / 127.5 - 1).topk(5).indices[0].tolist()
        assert classes & set(top), f"{name}: {top}"


def test_a_tuned_model_leaves_the_packaged_weights_as_they_are():
    first, second = (timm.create_model("tf_efficientnet_lite0", pretrained=False) for _ in range(2))
    load_packaged_weights(first)
    expected = first.conv_stem.weight.detach().clone()
    with torch.no_grad():
        first.conv_stem.weight.zero_()
    load_packaged_weights(second)
    assert torch.equal(second.conv_stem.weight, expected) and expected.any()


def test_packaged_weights_refuse_another_model():
    with pytest.raises(ValueError, match="do not fit"):
        load_packaged_weights(timm.create_model("tf_efficientnet_lite1", pretrained=False))
    with pytest.raises(ValueError, match="do not fit"):
        load_packaged_weights(timm.create_model("resnet18", pretrained=False))


def test_default_learner_is_a_fastai_learner_that_can_be_tuned(shop):
    learn = default_learner(shop)
    assert learn.arch == "tf_efficientnet_lite0" and list(learn.dls.vocab) == ["cat", "dog"]
    assert any(isinstance(tfm, Normalize) for tfm in learn.dls.after_batch.fs)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    name, _, probs = learn.predict(shop / "cat/a.jpg")
    assert name in ("cat", "dog") and probs.sum() == pytest.approx(1, abs=1e-4)


def test_default_learner_takes_dataloaders_and_other_architectures(shop):
    dls = ImageDataLoaders.from_folder(shop, valid_pct=0.25, item_tfms=Resize(64), bs=2)
    learn = default_learner(dls)
    assert learn.dls.train_ds is dls.train_ds and any(
        isinstance(tfm, Normalize) for tfm in learn.dls.after_batch.fs
    )
    assert not any(isinstance(tfm, Normalize) for tfm in dls.after_batch.fs)  # the caller's are as they were
    theirs = vision_learner(dls, torchvision.models.resnet18, pretrained=False)
    dls.add_tfms([Normalize.from_stats([0.1] * 3, [0.2] * 3)], "after_batch")
    (ours,) = [tfm for tfm in default_learner(theirs.dls).dls.after_batch.fs if isinstance(tfm, Normalize)]
    assert ours.mean.flatten().tolist() == [0.5] * 3
    assert default_learner(shop, "resnet18", pretrained=False).arch is torchvision.models.resnet18
    assert default_learner(shop, "mobilenetv3_small_050", pretrained=False).arch == "mobilenetv3_small_050"
    squeezenet = default_learner(shop, "squeezenet1_1", pretrained=False)  # torchvision has it, timm has not
    assert squeezenet.arch is torchvision.models.squeezenet1_1


def test_default_learner_works_on_one_image_without_a_label(tmp_path):
    write_pictures(tmp_path, ["1.jpg"], [1])
    learn = default_learner(tmp_path)
    assert Items.from_dls(learn.dls).labels == (None,)


def test_unknown_architectures_are_refused(shop):
    with pytest.raises(ValueError, match="neither a timm nor a torchvision model"):
        default_learner(shop, "resnet3400")


def test_weights_that_cannot_be_fetched_are_said_with_the_way_out(shop, monkeypatch):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(backbones, "vision_learner", offline)
    with pytest.raises(ConnectionError, match=r"resnet34.*no route to host.*tf_efficientnet_lite0"):
        default_learner(shop, "resnet34")


def test_what_fastai_cannot_build_is_not_blamed_on_the_network(shop):
    with pytest.raises(ValueError, match="cannot build a learner of 'vit_b_16'"):
        default_learner(shop, "vit_b_16", pretrained=False)


def test_nothing_but_a_test_set_is_looked_at_too(tmp_path):
    write_pictures(tmp_path, ["test/a/1.png", "test/a/2.png"], [1, 2])
    dls = default_learner(tmp_path).dls
    assert len(dls.train_ds) + len(dls.valid_ds) == 2
    with pytest.raises(ValueError, match="there are no images"):
        default_learner(Items((), (), (), tmp_path))


@pytest.mark.parametrize(
    "arch", ["resnet18", "resnet34", "resnet50", "densenet121", "vgg11_bn", "mobilenetv3_small_100"]
)
def test_last_conv_stage_of_any_cnn(shop, arch):
    learn = default_learner(shop, arch, pretrained=False)
    layer = find_layer(learn.model, XB)
    with torch.no_grad(), evaluating(learn.model):
        out = {}
        handles = [
            m.register_forward_hook(lambda m, _, o, m_=m: out.setdefault(m_, o))
            for m in (layer, learn.model[0])
        ]
        learn.model(XB)
    assert torch.equal(out[layer], out[learn.model[0]])  # the body is what fastai cuts before pooling
    for handle in handles:
        handle.remove()


def test_last_conv_stage_without_fastai():
    model = torchvision.models.resnet18(weights=None)
    assert find_layer(model, XB) is model.layer4


def test_last_conv_stage_of_a_tiny_picture_may_be_one_pixel():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    assert find_layer(model, XB[:, :, :3, :3]) is model[1]


def test_a_model_without_maps_is_refused():
    with pytest.raises(ValueError, match="no feature maps"):
        find_layer(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2)), XB)


def test_layers_by_module_name_and_index(shop):
    dls = ImageDataLoaders.from_folder(shop, valid_pct=0.25, item_tfms=Resize(64), bs=2)
    model = vision_learner(dls, torchvision.models.resnet34, pretrained=False).model
    block = model[0][7][2]
    assert (
        find_layer(model, XB, [0, 7, 2])
        is find_layer(model, XB, "0.7.2")
        is find_layer(model, XB, block)
        is block
    )
    with pytest.raises(ValueError, match=r"\[0, 7\] has 3 parts"):
        find_layer(model, XB, [0, 7, 5])
    with pytest.raises(ValueError, match=r"no layer '0\.blocks'"):
        find_layer(model, XB, "0.blocks")
    with pytest.raises(ValueError, match="no part of the model"):
        find_layer(model, XB, nn.ReLU())


def test_evaluating_restores_every_mode():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()))
    model[1].eval()
    before = [m.training for m in model.modules()]
    with pytest.raises(RuntimeError), evaluating(model):
        assert not any(m.training for m in model.modules())
        raise RuntimeError
    assert [m.training for m in model.modules()] == before


@pytest.mark.parametrize(
    "arch", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224"]
)
def test_a_transformers_last_tokens_become_maps(shop, arch):
    from imgclean.features.pooling import as_maps

    model = timm.create_model(arch, pretrained=False).eval()
    xb = torch.randn(2, 3, 224, 224)
    layer = find_layer(model, xb)
    assert layer is model.norm
    with torch.no_grad():
        tokens = model.forward_features(xb)
    maps = as_maps(tokens)
    side = 7 if arch.startswith("swin") else 14
    assert maps.shape == (2, model.num_features, side, side)
    rows = (
        tokens[:, :, :]
        if arch.startswith("swin")
        else tokens[:, model.num_prefix_tokens :].unflatten(1, (side, side))
    )
    for y, x in [(0, 0), (2, 5), (side - 1, side - 2)]:
        assert torch.equal(maps[:, :, y, x], rows[:, y, x])


@pytest.mark.parametrize(
    "arch", ["nest_tiny", "samvit_base_patch16_224", "torchvision swin_t", "vit_tiny_patch16_224"]
)
def test_the_default_layers_maps_follow_the_image(arch):
    """A bright spot that moves through the image moves through the maps, whatever their layout."""
    from imgclean.features.pooling import Pooled

    torch.manual_seed(0)
    ours, _, name = arch.rpartition(" ")
    if ours:
        model, size = torchvision.models.get_model(name).eval(), (96, 192)
    else:
        size = (224, 224)
        model = timm.create_model(name, **({"img_size": size} if "vit" in name else {})).eval()
    xb = torch.zeros(2, 3, *size)
    layers = layer_names(model, xb)
    xb[0, :, : size[0] // 4, : size[1] // 4] = xb[1, :, -size[0] // 4 :, -size[1] // 4 :] = 3
    net = Pooled(model, layers, nn.AdaptiveAvgPool2d(2))
    with torch.no_grad():
        a, b = net(xb).unflatten(1, (-1, 2, 2))
    change = (a - b).abs().mean(0)
    assert change[0, 0] > change[0, 1] and change[1, 1] > change[1, 0]
