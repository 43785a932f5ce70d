"""Class activation maps: where in an image a model sees what it says. Knows torch modules and tensors only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn


def class_activation_map(
    weight: torch.Tensor,  # (n_classes, k) of the last layer
    maps: torch.Tensor,  # (k, h, w) activations of the body
) -> torch.Tensor:  # (n_classes, h, w)
    """How much each place says for each class, where the last layer sees the mean of the body's maps.

    Raises `ValueError` where the layer sees something else. Source: Zhou et al., "Learning deep features for discriminative localization", 2016.
    """
    if weight.shape[1] != maps.shape[0]:
        raise ValueError(
            f"the last layer sees {weight.shape[1]} numbers and the body makes {maps.shape[0]} maps, so no map belongs to "
            "each number; use Grad-CAM, which follows the gradient through any head"
        )
    k, h, w = maps.shape
    return (weight @ maps.reshape(k, h * w)).reshape(-1, h, w)


def grad_cam(
    body: Callable[[torch.Tensor], torch.Tensor],  # from images (bs, 3, height, width) to maps (bs, k, h, w)
    head: Callable[..., torch.Tensor],  # from the maps of each image to scores (bs, n_classes)
    images: Sequence[torch.Tensor],  # one batch for each image that the head sees
    target: int,  # class whose score is explained
) -> list[torch.Tensor]:  # (bs, h, w) float32 for each of `images`, from 0
    """Where in each image the score of `target` comes from: maps weighted by their mean gradient, what speaks against it cut.

    Parameters need no gradient and get none. Source: Selvaraju et al., "Grad-CAM", 2017.
    """
    with torch.no_grad():
        found = [body(x) for x in images]
    with torch.enable_grad():
        found = [maps.detach().requires_grad_() for maps in found]
        score = head(*found)[:, target].sum()
        grads = torch.autograd.grad(score, found)
    return [
        (g.mean((2, 3), keepdim=True) * maps.detach()).sum(1).clamp_min(0).float().cpu()
        for g, maps in zip(grads, found, strict=True)
    ]


def agreement_maps(
    a: torch.Tensor,  # (k, h, w) activations of an image
    b: torch.Tensor,  # (k, h2, w2) of another
) -> tuple[torch.Tensor, torch.Tensor]:  # (h, w) and (h2, w2) float32 cosines
    "How like each place of either image the most similar place of the other one is, wherever that lies."
    x, y = (nn.functional.normalize(z.float().flatten(1), dim=0) for z in (a, b))
    cosine = x.T @ y
    return cosine.amax(1).view(a.shape[1:]), cosine.amax(0).view(b.shape[1:])


def show_cam(
    image,  # PIL image, or array (height, width, 3)
    cam_map: torch.Tensor | np.ndarray,  # (h, w)
    ctx=None,  # matplotlib's axis; default: a new one
    *,
    alpha: float = 0.6,  # of the map
    limits: tuple[float, float] | None = None,  # values of the darkest and the brightest; default: its own
    box: tuple[float, float, float, float]
    | None = None,  # left, top, right, bottom in parts of the image's sides
):
    "The image with the map laid over it, bright where it is high, on the axis that is returned."
    import matplotlib.pyplot as plt

    image, cam_map = np.asarray(image), np.asarray(cam_map, dtype=np.float32)
    if cam_map.ndim != 2:
        raise ValueError(f"the map has the shape {cam_map.shape}; give (h, w), such as one class of it")
    ctx = ctx or plt.subplots()[1]
    low, high = limits or (float(cam_map.min()), float(cam_map.max()))
    height, width = image.shape[:2]
    left, top, right, bottom = box or (0, 0, 1, 1)
    ctx.imshow(image, cmap="gray" if image.ndim == 2 else None)
    ctx.imshow(
        cam_map, extent=(left * width, right * width, bottom * height, top * height), alpha=alpha, interpolation="bilinear", cmap="magma", vmin=low, vmax=max(high, low + 1e-6)
    )  # fmt: skip
    ctx.set(xlim=(0, width), ylim=(height, 0))
    ctx.axis("off")
    return ctx
