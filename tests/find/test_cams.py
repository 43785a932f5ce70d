import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from imgclean.find.cams import agreement_maps, class_activation_map, grad_cam, show_cam


def test_the_map_of_the_last_layer_is_the_einsum():
    weight, maps = torch.randn(3, 5), torch.randn(5, 4, 6)
    assert torch.allclose(
        class_activation_map(weight, maps), torch.einsum("ik,kjl->ijl", weight, maps), atol=1e-5
    )
    with pytest.raises(ValueError, match="sees 5 numbers and the body makes 7 maps"):
        class_activation_map(weight, torch.randn(7, 4, 6))


def test_grad_cam_of_a_linear_head_is_the_map_of_its_weights():
    body, last = nn.Conv2d(3, 5, 3), nn.Linear(5, 4)
    x = torch.randn(2, 3, 9, 8)
    [cams] = grad_cam(body, lambda maps: last(maps.mean((2, 3))), [x], 2)
    with torch.no_grad():
        maps = body(x)
        slow = torch.stack([class_activation_map(last.weight, m)[2] for m in maps]).clamp_min(0)
    assert torch.allclose(cams, slow / (maps.shape[2] * maps.shape[3]), atol=1e-6)
    assert body.weight.grad is None and last.weight.grad is None


def test_grad_cam_follows_both_images_of_a_pair():
    body = nn.Conv2d(3, 2, 1, bias=False)
    xs = [torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4)]
    # The score goes by the first image's first map alone.
    first, second = grad_cam(body, lambda a, b: a[:, :1].mean((2, 3)) + 0 * b.sum(), xs, 0)
    with torch.no_grad():
        assert torch.allclose(first, body(xs[0])[:, 0].clamp_min(0) / 16, atol=1e-6)
    assert not second.any()


def test_the_mass_of_the_map_lies_on_the_half_that_shows_the_class(sample):
    "Two photographs side by side, and a network that knows a thousand classes."
    import timm
    from PIL import Image

    from imgclean.dataset.images import open_image
    from imgclean.features.backbones import PACKAGED, load_packaged_weights

    model = timm.create_model(PACKAGED, pretrained=False).eval()
    load_packaged_weights(model)
    tfm = timm.data.create_transform(**timm.data.resolve_model_data_config(model) | {"crop_pct": 1.0})
    names = {"animal/cat.jpg": 285, "still_life/cup.jpg": 967}  # Egyptian cat, espresso
    known = {path.name: path for path in (sample.path).rglob("*.jpg")}
    cat, cup = (open_image(known[name.split("/")[1]]).resize((224, 224)) for name in names)
    for left, right, target, on_left in (
        (cat, cup, 285, True),
        (cup, cat, 285, False),
        (cat, cup, 967, False),
        (cup, cat, 967, True),
    ):
        both = Image.new("RGB", (448, 224))
        both.paste(left, (0, 0))
        both.paste(right, (224, 0))
        x = tfm.transforms[-1](tfm.transforms[-2](both))[None]
        [cam] = grad_cam(model.forward_features, model.forward_head, [x], target)
        half = cam.shape[2] // 2
        share = float(cam[0, :, :half].sum() / cam.sum())
        assert (share > 0.75) == on_left and (share < 0.25) != on_left, (target, on_left, share)


def test_agreement_is_the_best_cosine_of_each_place():
    a, b = torch.randn(6, 3, 4), torch.randn(6, 5, 2)
    b[:, 2, 1] = 3 * a[:, 1, 2]  # one place of a is in b, brighter
    in_a, in_b = agreement_maps(a, b)
    slow = [
        max(float(torch.cosine_similarity(a[:, y, x], b[:, v, u], dim=0)) for v in range(5) for u in range(2))
        for y in range(3)
        for x in range(4)
    ]
    assert np.allclose(in_a.ravel(), slow, atol=1e-5) and in_b.shape == (5, 2)
    assert in_a.argmax() == 1 * 4 + 2 and in_b.argmax() == 2 * 2 + 1 and in_a.max() > 0.9999


def test_maps_lie_over_the_whole_image():
    ax = show_cam(np.zeros((40, 60), np.uint8), torch.eye(3))
    assert ax.images[1].get_extent() == [0, 60, 40, 0] and np.array_equal(ax.images[1].get_array(), np.eye(3))
    plt.close("all")
    with pytest.raises(ValueError, match=r"the map has the shape \(2, 3, 3\)"):
        show_cam(np.zeros((40, 60, 3)), torch.zeros(2, 3, 3))
