import sys

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.vision.all import (
    CropPad,
    ImageDataLoaders,
    Learner,
    Normalize,
    RandomResizedCropGPU,
    Resize,
    aug_transforms,
    imagenet_stats,
)
from pictures import picture
from torch import nn
from torchvision.transforms import CenterCrop, Compose, ToTensor
from torchvision.transforms import Normalize as Norm
from torchvision.transforms import Resize as SquishTo

from imgclean.dataset.items import Items
from imgclean.features.activations import embed
from imgclean.features.inputs import LearnerInputs, ModuleInputs, batch_of, lanes_for, seen_of


def test_lanes_are_for_cpus_that_can_fork(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr("imgclean.features.inputs._cores", lambda: 5)
    monkeypatch.setattr("imgclean.features.inputs.sys.platform", "linux")
    assert [lanes_for(cpu, 64), lanes_for(cpu, 63), lanes_for(cpu, 10, 3), lanes_for(cpu, 1000, 0)] == [
        5,
        0,
        3,
        0,
    ]
    assert lanes_for(torch.device("cuda"), 1000) == 0
    monkeypatch.setattr("imgclean.features.inputs.sys.platform", "darwin")
    assert lanes_for(cpu, 1000, 3) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_lanes_give_what_one_process_gives(learn, shop):
    (shop / "cat/broken.jpg").write_bytes(b"no image")
    items, threads = Items.from_folder(shop), torch.get_num_threads()
    alone = embed(learn, items, bs=3, num_workers=0)
    lanes = [embed(learn, items, bs=3, num_workers=n) for n in (1, 2, 3, 20)]
    for seen in lanes:
        np.testing.assert_allclose(seen.vectors, alone.vectors, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(seen.vectors, lanes[0].vectors)  # whatever their number
        assert seen.items == alone.items and len(seen.items.unreadable) == 1
    assert torch.get_num_threads() == threads
    assert not any(m._forward_hooks for m in learn.model.modules())
    with pytest.raises(ValueError, match=r"^the transforms give images of different sizes"):
        embed(
            learn.model, items, tfm=lambda im: torch.zeros(3, 64, 64 + im.getpixel((0, 0))[0]), num_workers=2
        )


def test_threads_decode_where_processes_cannot_be_forked(learn, shop, monkeypatch):
    items = Items.from_folder(shop)
    expected = embed(learn, items, bs=2, num_workers=0)
    monkeypatch.setattr("imgclean.features.inputs.sys.platform", "darwin")
    seen = embed(learn, items, bs=2, num_workers=3)
    np.testing.assert_array_equal(seen.vectors, expected.vectors)
    assert seen.items == expected.items


def test_images_of_too_many_pixels_are_left_out(learn, shop):
    picture(1, (300, 200)).save(shop / "cat/large.png")
    seen = embed(learn, Items.from_folder(shop), max_pixels=300 * 200 - 1)
    assert len(seen.items) == 8
    assert seen.items.unreadable[0].error == "300 x 200 pixels are more than max_pixels=59999"
    assert len(embed(learn, Items.from_folder(shop), max_pixels=300 * 200).items) == 9


@pytest.mark.parametrize(
    ("item_tfms", "batch_tfms", "box"),
    [
        ([Resize(64, method="squish")], [], (0, 0, 1, 1)),
        ([Resize(64, method="crop")], [], (0.25, 0, 0.75, 1)),
        ([Resize(64, method="pad", pad_mode="zeros")], [], (0, -0.5, 1, 1.5)),
        ([Resize(64, method="pad", pad_mode="reflection")], [], (0, -0.5, 1, 1.5)),
        ([CropPad((200, 50))], [], (0.375, -0.5, 0.625, 1.5)),
        ([Resize(64, method="squish")], [*aug_transforms(), Normalize.from_stats(*imagenet_stats)], (0, 0, 1, 1)),
        ([Resize(96, method="crop")], [RandomResizedCropGPU(64, min_scale=0.9)], (0.25, 0, 0.75, 1)),
    ],
)  # fmt: skip
def test_which_part_of_an_image_a_learner_sees(tmp_path, item_tfms, batch_tfms, box):
    for k in range(4):
        picture(k, (200, 100)).save(tmp_path / f"{k}.jpg")
    dls = ImageDataLoaders.from_df(
        pd.DataFrame({"name": [f"{k}.jpg" for k in range(4)], "label": [*"abab"]}), tmp_path, valid_pct=0.5,
        item_tfms=item_tfms, batch_tfms=batch_tfms, bs=2,
    )  # fmt: skip
    learn = Learner(dls, nn.Linear(1, 1), loss_func=nn.CrossEntropyLoss())
    x, found = seen_of(LearnerInputs(learn), tmp_path / "1.jpg", torch.device("cpu"))
    assert found == pytest.approx(box, abs=0.02)
    assert torch.equal(x, batch_of(learn, tmp_path / "1.jpg")) and x.shape[:2] == (1, 3)


def test_a_modules_transform_and_one_that_hides_where_it_looked(tmp_path):
    picture(1, (200, 100)).save(tmp_path / "a.png")
    crop = Compose([SquishTo(64), CenterCrop(56), ToTensor(), Norm([0.5] * 3, [0.2] * 3)])

    def own_scale(image):  # of each picture
        x = ToTensor()(image.resize((32, 32)))
        return (x - x.mean()) / (x.std() + 1e-5)

    for tfm, box in ((crop, (0.28125, 0.0625, 0.71875, 0.9375)), (own_scale, (0, 0, 1, 1))):
        _, found = seen_of(ModuleInputs(nn.Identity(), tfm), tmp_path / "a.png", torch.device("cpu"))
        assert found == pytest.approx(box, abs=0.02)


def test_what_a_module_needs_is_said(learn, shop):
    items, model = Items.from_folder(shop), learn.model
    with pytest.raises(ValueError, match="without its transform; give tfm="):
        embed(model, items)
    with pytest.raises(ValueError, match="tfm returns Image; it must make a tensor"):
        embed(model, items, tfm=lambda image: image)
    with pytest.raises(ValueError, match=r"tfm returns shape \(64, 64\)"):
        embed(model, items, tfm=lambda image: torch.zeros(64, 64))
    with pytest.raises(ValueError, match="a Learner, which has transforms of its own"):
        embed(learn, items, tfm=lambda image: image)
    with pytest.raises(TypeError, match="got a str to look with; give a fastai Learner"):
        embed("resnet18", items)
    scripted = torch.jit.trace(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8))
    with pytest.raises(TypeError, match="a TorchScript module, whose layers cannot be hooked"):
        embed(scripted, items, tfm=lambda image: image)
    with pytest.raises(ValueError, match="precision is 'fp8'; give one of"):
        embed(learn, items, precision="fp8")
    with pytest.raises(ValueError, match="dtype is int8; give 'float32' or 'float16'"):
        embed(learn, items, dtype="int8")
