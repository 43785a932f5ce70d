import numpy as np
import pytest
import torch
from fastai.layers import AdaptiveConcatPool2d
from torch import nn

from imgclean.features.pooling import GeM, Pooled, as_maps


def test_gem_lies_between_mean_and_maximum():
    x = torch.rand(2, 5, 7, 7, generator=torch.Generator().manual_seed(0))
    gem = GeM(1)(x)
    slow = torch.tensor([[[[float((c**3).mean() ** (1 / 3))]] for c in image] for image in x])
    torch.testing.assert_close(gem, slow)
    both = AdaptiveConcatPool2d(1)(x)
    assert (gem <= both[:, :5]).all() and (gem >= both[:, 5:]).all()
    assert GeM(3)(x).shape == (2, 5, 3, 3)


def test_tokens_go_back_to_their_places():
    maps = torch.arange(2 * 3 * 4 * 4.0).reshape(2, 3, 4, 4)
    tokens = torch.cat([torch.full((2, 2, 3), -1.0), maps.flatten(2).transpose(1, 2)], 1)  # two class tokens
    torch.testing.assert_close(as_maps(tokens), maps)
    torch.testing.assert_close(as_maps(maps.permute(0, 2, 3, 1)), maps)
    assert as_maps(maps) is maps and as_maps(maps[0, 0]).shape == (4, 4)


@pytest.mark.parametrize(
    "h, w, extra", [(7, 14, 0), (14, 7, 1), (7, 7, 5), (5, 9, 0), (12, 16, 1), (1, 1, 0), (1, 1, 1)]
)
def test_maps_of_any_side_and_layout(h, w, extra):
    maps = torch.randn(2, 24, h, w)
    tokens = torch.cat([torch.zeros(2, extra, 24), maps.flatten(2).transpose(1, 2)], 1)
    for ratio in (h / w, (h * 16 - 5) / (w * 16 - 5)):  # images whose sides are no multiples of a patch
        assert torch.equal(as_maps(tokens, h / w), maps)
        assert torch.equal(as_maps(maps, ratio), maps)
        assert torch.equal(as_maps(maps.permute(0, 2, 3, 1), ratio), maps)


def test_tokens_that_make_no_grid_become_a_row():
    tokens = torch.randn(2, 59, 8)  # squares are too far: 49, 36
    assert torch.equal(as_maps(tokens[:, :23], 0.01)[:, :, 0], tokens[:, :23].transpose(1, 2))
    assert as_maps(tokens, 1.0).shape == (2, 8, 7, 7)  # ten before it, at most 16 are believed


def test_several_layers_count_alike():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3)).eval()
    xb = torch.randn(5, 3, 16, 16)
    net = Pooled(model, ["0", "2"], nn.AdaptiveAvgPool2d(1))
    with torch.no_grad():
        first = model[0](xb).mean((2, 3))
        last = model(xb).mean((2, 3))
        both = torch.cat([v / v.norm(dim=1, keepdim=True) for v in (first, last)], 1)
        torch.testing.assert_close(net(xb), both)
        torch.testing.assert_close(Pooled(model, ["2"], nn.AdaptiveAvgPool2d(1))(xb), last)
    net.unhook()
    assert not model[0]._forward_hooks and len(model[2]._forward_hooks) == 1  # the second network's


def test_a_layer_that_returns_no_tensor_is_named():
    class Two(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(ValueError, match="'0' returns tuple, not one tensor"):
        Pooled(nn.Sequential(Two()), ["0"], nn.Identity())(torch.zeros(1, 3, 4, 4))
    assert np.isfinite(GeM()(torch.zeros(1, 2, 4, 4)).numpy()).all()
