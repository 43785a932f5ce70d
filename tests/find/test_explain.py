import matplotlib.pyplot as plt
import pytest
import torch
from fastai.callback.hook import hook_output
from pictures import picture
from PIL import Image
from torch import nn

from imgclean.dataset.images import UnreadableImage
from imgclean.features.backbones import default_learner
from imgclean.find.explain import explain_pair, pair_cams


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
