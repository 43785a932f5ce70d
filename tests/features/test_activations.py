import numpy as np
import pytest
import timm
import torch
import torchvision
from fastai.callback.hook import hook_output
from fastai.layers import AdaptiveConcatPool2d
from fastai.vision.all import ImageDataLoaders, PILImageBW, Resize, vision_learner
from pictures import picture, write_pictures
from torch import nn

from imgclean.dataset.images import open_image
from imgclean.dataset.items import Items
from imgclean.features import activations
from imgclean.features.activations import embed
from imgclean.features.backbones import default_learner
from imgclean.features.pooling import Pooled
from imgclean.features.precision import Plans


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


def test_a_module_with_its_transform_equals_the_learner(learn, shop):
    items = Items.from_folder(shop)

    def tfm(image):
        (xb,) = learn.dls.test_dl([image], bs=1).one_batch()
        return xb[0]

    seen = embed(learn.model, items, tfm=tfm, bs=3, num_workers=0)
    np.testing.assert_allclose(seen.vectors, embed(learn, items).vectors, rtol=1e-4, atol=1e-5)


def test_a_timm_model_knows_its_own_transform(shop, tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("resnet18", pretrained=False, num_classes=0)
    items = Items.from_folder(shop)
    own = embed(model, items, cache=tmp_path / "cache")
    tfm = torchvision.transforms.Compose(
        [
            torchvision.transforms.Resize(235, torchvision.transforms.InterpolationMode.BICUBIC),
            torchvision.transforms.CenterCrop(224),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize(model.pretrained_cfg["mean"], model.pretrained_cfg["std"]),
        ]
    )
    np.testing.assert_allclose(embed(model, items, tfm=tfm).vectors, own.vectors, rtol=1e-3, atol=1e-4)
    again = embed(model, items, cache=tmp_path / "cache")
    assert again.fingerprint == own.fingerprint and np.array_equal(again.vectors, own.vectors)


def test_several_layers_in_one_pass(learn, shop):
    items = Items.from_folder(shop)
    names = ["0.5", "0.7"]
    both = embed(learn, items, layer=names)
    assert both.layer == "0.5 + 0.7" and both.parts == (slice(0, 256), slice(256, 1280))
    for name, part in zip(names, both.parts, strict=True):
        alone = embed(learn, items, layer=name).vectors
        unit = alone / np.linalg.norm(alone, axis=1, keepdims=True)
        np.testing.assert_allclose(both.vectors[:, part], unit, rtol=1e-4, atol=1e-5)
    same = embed(learn, items, layer=[learn.model[0][5], [0, 7]])  # modules and v1's lists, too
    np.testing.assert_array_equal(same.vectors, both.vectors)


def test_half_the_bytes(learn, shop, tmp_path):
    items = Items.from_folder(shop)
    whole = embed(learn, items, cache=tmp_path).vectors
    for _ in range(2):  # computed, then from the cache
        half = embed(learn, items, dtype="float16", cache=tmp_path)
        assert half.vectors.dtype == np.float16
        np.testing.assert_array_equal(half.vectors, whole.astype(np.float16))
    pooling = lambda size: Huge()  # noqa: E731
    assert embed(learn, items, pool=pooling, dtype="float16").vectors.max() == 65504


class Huge(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)) + 1e6


def test_large_results_are_mapped_from_the_disk(learn, shop, tmp_path, monkeypatch):
    (shop / "cat/b.jpg").write_bytes(b"no image")
    items = Items.from_folder(shop)
    small = embed(learn, items)
    monkeypatch.setattr("imgclean.features.rows.IN_MEMORY", 0)
    for cache in (False, tmp_path, tmp_path):
        large = embed(learn, items, cache=cache)
        assert isinstance(large.vectors, np.memmap) and large.items == small.items
        np.testing.assert_array_equal(large.vectors, small.vectors)


def test_chunks_are_halved_where_memory_ends(learn, shop, monkeypatch):
    items, sizes = Items.from_folder(shop), []
    expected = embed(learn, items, bs=4).vectors
    real = Pooled.forward

    def small_gpu(self, xb):
        sizes.append(len(xb))
        if len(xb) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return real(self, xb)

    monkeypatch.setattr(Pooled, "forward", small_gpu)
    monkeypatch.setattr(Plans, "_prepare", lambda *_: None)
    np.testing.assert_allclose(embed(learn, items, bs=4).vectors, expected, rtol=1e-4, atol=1e-5)
    assert 4 in sizes and sizes[-1] == 2

    monkeypatch.setattr(Pooled, "forward", lambda *_: torch.ones(1, 2) @ torch.ones(3, 1))
    with pytest.raises(RuntimeError, match="shapes cannot"):
        embed(learn, items, bs=4)


def test_the_fastest_precision_is_looked_for_and_kept(learn, shop, tmp_path, monkeypatch):
    "Once images are in the cache in one precision, a run that would choose another goes on in it."
    items, asked = Items.from_folder(shop), []

    def fastest(self, xb, n):
        asked.append((tuple(xb.shape), n))
        return "bf16" if len(asked) == 1 else "fp32"

    monkeypatch.setattr(Plans, "fastest", fastest)
    assert embed(learn, items, cache=tmp_path).precision == "fp32" and not asked  # too few to try
    monkeypatch.setattr(activations, "TIMED_FROM", 2)
    first = embed(learn, items.subset(range(4)), bs=4, cache=tmp_path / "new")
    assert first.precision == "bf16" and asked == [((4, 3, 64, 64), 3)]  # two are equal
    then = embed(learn, items, bs=4, cache=tmp_path / "new")
    assert then.precision == "bf16" and len(asked) == 1
    np.testing.assert_array_equal(then.vectors[:4], first.vectors)
    assert embed(learn, items, cache=tmp_path / "new", precision="fp32").precision == "fp32"
    assert embed(learn, items).precision == "fp32" and len(asked) == 2


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "tf_efficientnet_lite0", "vit_tiny_patch16_224"])
def test_every_kind_of_model_equals_the_slow_reference(shop, arch, trained):
    "One image at a time, fp32, fastai's own DataLoader and hook: cosine above 0.99999, numbers within 0.1 %."
    items = Items.from_folder(shop).subset(range(4))
    torch.manual_seed(0)
    size = 96 if arch.startswith("resnet") else 224  # which the packaged weights and a ViT are for
    learn = default_learner(items, arch, trained and arch == "tf_efficientnet_lite0", size)
    if trained:
        learn.dls.bs = 4
        with learn.no_bar(), learn.no_logging():
            learn.fit(1, lr=1e-4)
    seen = embed(learn, items)
    layer = learn.model.get_submodule(seen.layer)
    pool = AdaptiveConcatPool2d(1)
    side = 14 if arch.startswith("vit") else 7

    def pooled(out):
        return pool(out[:, 1:].transpose(1, 2).unflatten(2, (side, side)) if out.ndim == 3 else out)

    slow = one_at_a_time(learn, items.paths, layer, pooled)
    scale = np.abs(slow).max()
    np.testing.assert_allclose(seen.vectors, slow, rtol=1e-3, atol=1e-3 * scale)
    cosine = (
        (seen.vectors * slow).sum(1) / np.linalg.norm(seen.vectors, axis=1) / np.linalg.norm(slow, axis=1)
    )
    assert cosine.min() > 0.99999


def test_fastais_bar_in_a_notebook(learn, shop, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, gen, leave):
            self.n, self.at, self.comment, self.interrupted = len(gen), [], "", False
            self.leave = leave
            self.update = self.at.append
            bars.append(self)

        def on_interrupt(self):
            self.interrupted = True

    monkeypatch.setattr(activations, "progress_bar", Bar)
    monkeypatch.setattr(activations, "IN_NOTEBOOK", True)
    items = Items.from_folder(shop)
    embed(learn, items, bs=3)
    assert (bars[0].n, bars[0].at) == (8, [0, 3, 6, 8]) and bars[0].comment.endswith("images/s")
    embed(learn, items, progress=False)
    with learn.no_bar():
        embed(learn, items)
    assert len(bars) == 1 and bars[0].comment.startswith("looking, ") and bars[0].leave
    embed(learn, items, progress="edited copies")
    assert bars[1].comment.startswith("edited copies, ") and not bars.pop().leave
    monkeypatch.setattr(activations.Eye, "see", lambda self, xb: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        embed(learn, items)
    assert bars[1].interrupted


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


class Flat(nn.Module):
    "The tutorials' network: a `view` that bears no other memory layout."

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 5, stride=3), nn.Linear(4 * 20 * 20, 5)

    def forward(self, x):
        return self.fc(self.conv(x).view(-1, 4 * 20 * 20))


@pytest.mark.parametrize("make", [Flat, lambda: nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 4, 5)), nn.BatchNorm2d(4)),
                                  lambda: nn.Sequential(nn.Conv2d(3, 4, 5), nn.AvgPool2d(2)).half(),
                                  lambda: nn.Sequential(nn.AvgPool2d(2))])  # fmt: skip
def test_models_that_bear_no_preparation(shop, make):
    items, resize = Items.from_folder(shop), torchvision.transforms.Resize((64, 64))
    tfm = torchvision.transforms.Compose([resize, torchvision.transforms.ToTensor()])
    torch.manual_seed(0)
    model = make().eval()
    layer = next(n for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.AvgPool2d)))
    seen = embed(model, items, layer=layer, tfm=tfm)
    with torch.no_grad():
        xb = torch.stack([tfm(open_image(path)) for path in items.paths])
        slow = AdaptiveConcatPool2d(1)(model.float().get_submodule(layer)(xb)).flatten(1)
    np.testing.assert_allclose(seen.vectors, slow.numpy(), rtol=1e-2, atol=1e-3)
    embed(model, items, tfm=tfm, cache=False)  # finds a layer of its own


def test_few_readable_images_are_enough_to_time_precisions(shop, monkeypatch):
    monkeypatch.setattr(activations, "TIMED_FROM", 2)
    for path in sorted(shop.rglob("*.jpg"))[:-1]:
        path.write_bytes(b"no image")
    seen = embed(default_learner(shop), Items.from_folder(shop))
    assert len(seen.items) == 1 and len(seen.items.unreadable) == 7
