import numpy as np
import pytest
import torch
import torchvision
from fastai.callback.hook import hook_output
from fastai.layers import AdaptiveConcatPool2d
from fastai.vision.all import ImageDataLoaders, PILImageBW, Resize, aug_transforms, vision_learner
from pictures import picture, write_pictures
from torch import nn

from imgclean.dataset.items import Items
from imgclean.features.activations import embed
from imgclean.features.backbones import default_learner


@pytest.fixture
def learn(shop):
    torch.manual_seed(0)
    dls = ImageDataLoaders.from_folder(
        shop, valid_pct=0.25, seed=1, item_tfms=Resize(64), batch_tfms=aug_transforms(), bs=2, num_workers=0
    )
    return vision_learner(dls, torchvision.models.resnet18, pretrained=False)


def one_at_a_time(learn, paths, layer, pool):
    "The slow obvious way: fastai's own test DataLoader, one image a batch, plain hook."
    learn.model.eval()
    rows = []
    for path in paths:
        (xb,) = learn.dls.test_dl([path], bs=1).one_batch()
        with hook_output(layer) as hook, torch.no_grad():
            learn.model(xb)
        rows.append(pool(hook.stored).flatten().numpy())
    return np.stack(rows)


@pytest.mark.parametrize("pool_dim", [1, 2])
@pytest.mark.parametrize("bs", [1, 3, 64])
def test_equals_one_image_at_a_time(learn, shop, bs, pool_dim):
    items = Items.from_folder(shop)
    seen = embed(learn, items, pool_dim=pool_dim, bs=bs, num_workers=0)
    slow = one_at_a_time(learn, items.paths, learn.model[0], AdaptiveConcatPool2d(pool_dim))
    assert seen.vectors.dtype == np.float32 and seen.vectors.shape == (8, 2 * 512 * pool_dim**2)
    np.testing.assert_allclose(seen.vectors, slow, rtol=1e-4, atol=1e-5)


def test_worker_processes_change_nothing(learn, shop):
    items = Items.from_folder(shop)
    alone, together = (embed(learn, items, bs=3, num_workers=n).vectors for n in (0, 2))
    np.testing.assert_array_equal(alone, together)


def test_pools(learn, shop):
    items = Items.from_folder(shop)
    flat = embed(learn, items, pool=None)
    assert flat.vectors.shape == (8, 512 * 2 * 2)
    mean = embed(learn, items, pool=nn.AdaptiveAvgPool2d)
    np.testing.assert_allclose(mean.vectors, flat.vectors.reshape(8, 512, 4).mean(2), rtol=1e-5, atol=1e-6)
    behind_the_head = embed(learn, items, layer="1.4")
    assert behind_the_head.vectors.shape == (8, 512) and behind_the_head.layer == "1.4"


def test_hooks_modes_and_transforms_are_as_before(learn, shop):
    learn.model.train()
    learn.model[0].eval()
    modes = [m.training for m in learn.model.modules()]
    splits = [dl.after_batch.split_idx for dl in learn.dls.loaders]
    embed(learn, Items.from_folder(shop))
    assert [m.training for m in learn.model.modules()] == modes
    assert all(not m._forward_hooks for m in learn.model.modules())
    assert [dl.after_batch.split_idx for dl in learn.dls.loaders] == splits
    with pytest.raises(ValueError, match="no layer"):
        embed(learn, Items.from_folder(shop), layer="nowhere")
    assert [m.training for m in learn.model.modules()] == modes
    assert all(not m._forward_hooks for m in learn.model.modules())


def test_unreadable_files_are_left_out_and_the_rows_stay_in_order(learn, shop):
    (shop / "cat/b.jpg").write_bytes(b"no image")
    (shop / "dog/d.jpg").write_bytes((shop / "dog/d.jpg").read_bytes()[:500])
    items = Items.from_folder(shop)
    seen = embed(learn, items, bs=2, num_workers=0)
    good = [p for p in items.paths if p.name + p.parent.name not in ("b.jpgcat", "d.jpgdog")]
    assert list(seen.items.paths) == good
    assert [u.path.name for u in seen.items.unreadable] == ["b.jpg", "d.jpg"]
    slow = one_at_a_time(learn, good, learn.model[0], AdaptiveConcatPool2d(1))
    np.testing.assert_allclose(seen.vectors, slow, rtol=1e-4, atol=1e-5)


def test_a_dataset_of_bad_files_alone(learn, tmp_path):
    (tmp_path / "bad").mkdir()
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        (tmp_path / "bad" / name).write_bytes(b"")
    seen = embed(learn, Items.from_folder(tmp_path / "bad"), bs=2)
    assert len(seen.vectors) == 0 and len(seen.items) == 0 and len(seen.items.unreadable) == 3


def test_grey_learners_and_readers_of_their_own(shop):
    from fastai.vision.all import (
        CategoryBlock,
        DataBlock,
        ImageBlock,
        PILImage,
        get_image_files,
        parent_label,
    )

    common = dict(get_items=get_image_files, get_y=parent_label, item_tfms=Resize(64))
    grey = DataBlock((ImageBlock(PILImageBW), CategoryBlock), **common).dataloaders(shop, bs=2)
    learn = vision_learner(grey, torchvision.models.resnet18, pretrained=False, n_in=1)
    assert embed(learn, Items.from_folder(shop)).vectors.shape == (8, 1024)

    def dark(path):  # a reader that insists on a path
        return PILImage.create(path.parent / path.name).point(lambda v: v // 2)

    own = DataBlock((ImageBlock, CategoryBlock), get_x=dark, **common).dataloaders(shop, bs=2)
    learn = vision_learner(own, torchvision.models.resnet18, pretrained=False)
    items = Items.from_folder(shop)
    slow = one_at_a_time(learn, items.paths, learn.model[0], AdaptiveConcatPool2d(1))
    np.testing.assert_allclose(embed(learn, items).vectors, slow, rtol=1e-4, atol=1e-5)


def test_every_odd_format_gets_a_row(tmp_path):
    from PIL import Image

    write_pictures(tmp_path, ["plain.jpg"], [1])
    picture(2).convert("CMYK").save(tmp_path / "cmyk.jpg")
    picture(3).convert("P").save(tmp_path / "palette.png", transparency=0)
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(tmp_path / "deep.png")
    Image.new("RGB", (1, 1), "red").save(tmp_path / "pixel.png")
    picture(4, (6000, 5000)).save(tmp_path / "large.jpg")
    seen = embed(default_learner(tmp_path), Items.from_folder(tmp_path))
    assert len(seen.items) == 6 and not seen.items.unreadable
    assert np.isfinite(seen.vectors).all() and (np.linalg.norm(seen.vectors, axis=1) > 0).all()


def test_decoding_at_a_reduced_scale_hardly_changes_a_vector(tmp_path):
    picture(5, (1600, 1200)).save(tmp_path / "large.jpg", quality=95)
    learn = default_learner(tmp_path)
    (reduced,) = embed(learn, Items.from_folder(tmp_path)).vectors
    del learn.dls.imgclean_size
    (whole,) = embed(learn, Items.from_folder(tmp_path)).vectors
    cosine = reduced @ whole / np.linalg.norm(reduced) / np.linalg.norm(whole)
    assert 0.99 < cosine < 1 - 1e-7  # close, and not the same: the option does something


def test_a_turned_copy_is_seen_upright(tmp_path):
    from PIL import Image

    im, exif = picture(5, (120, 80)), Image.Exif()
    im.save(tmp_path / "upright.png")
    exif[0x0112] = 8
    im.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "turned.png", exif=exif)
    a, b = embed(default_learner(tmp_path), Items.from_folder(tmp_path)).vectors
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_images_of_different_sizes_are_said_with_the_cure(tmp_path):
    for k, size in enumerate([(60, 60), (80, 60)]):
        (tmp_path / "ab"[k]).mkdir()
        picture(k, size).save(tmp_path / "ab"[k] / "1.png")
    dls = ImageDataLoaders.from_folder(tmp_path, valid_pct=0.5, bs=1)
    learn = vision_learner(dls, torchvision.models.resnet18, pretrained=False)
    with pytest.raises(ValueError, match=r"item_tfms=Resize\(224\)"):
        embed(learn, Items.from_folder(tmp_path))


def test_nothing_to_look_at(learn, shop):
    with pytest.raises(ValueError, match="no images"):
        embed(learn, Items.from_folder(shop).subset([]))


def test_learners_with_one_set_and_exported_ones(learn, shop, tmp_path):
    from fastai.vision.all import DataBlock, ImageBlock, get_image_files, load_learner

    items = Items.from_folder(shop)
    here = embed(learn, items).vectors
    learn.export(tmp_path / "exported.pkl")
    np.testing.assert_allclose(
        embed(load_learner(tmp_path / "exported.pkl"), items).vectors, here, rtol=1e-4, atol=1e-5
    )
    block = DataBlock(
        (ImageBlock,),
        get_items=get_image_files,
        n_inp=1,
        item_tfms=Resize(64),
        splitter=lambda o: [range(len(o))],
    )
    learn.dls = block.dataloaders(shop, bs=2)
    assert len(learn.dls.loaders) == 1
    np.testing.assert_allclose(embed(learn, items).vectors, here, rtol=1e-4, atol=1e-5)
