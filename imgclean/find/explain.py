"""Why two images are alike, as maps over both: what a siamese head goes by, and which regions agree."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from ..dataset.images import open_image
from ..dataset.items import Items
from ..features.activations import looker
from ..features.backbones import PACKAGED, default_learner, evaluating, find_layer
from ..features.inputs import Box, batch_of, seen_of
from ..features.pooling import as_maps
from .cams import agreement_maps, class_activation_map, grad_cam, show_cam
from .siamese import eye_of

SAME = 1  # the head's class


class Region(NamedTuple):
    "How like each place of an image the most similar place of another image is"

    map: np.ndarray  # (h, w) float32 cosines
    box: Box  # where it lies on the image


def pair_cams(
    learn,  # of `siamese_learner`
    a: str | os.PathLike,
    b: str | os.PathLike,
    method: str = "gradcam",  # or "article", for encoders with as many maps as the last layer has inputs
) -> list[torch.Tensor]:  # (h, w) float32 of each image
    "Where in two images a siamese network sees that they are of one class. Raises `ValueError`, see `class_activation_map`."
    if method not in ("gradcam", "article"):
        raise ValueError(f"method is {method!r}; give 'gradcam' or 'article'")
    model, eye = learn.model, eye_of(learn, Items.from_paths([a, b]))
    xs = [batch_of(eye, path) for path in (a, b)]
    with evaluating(model), torch.no_grad():
        if method == "article":
            weight = model.head[-1].weight.float()
            maps = [model.encoder(x)[0].float() for x in xs]
            return [class_activation_map(weight, m)[SAME].cpu() for m in maps]
        cams = grad_cam(model.encoder, lambda *maps: model.head(torch.cat(maps, 1)), xs, SAME)
    return [cam[0] for cam in cams]


def explain_pair(
    a: str | os.PathLike,
    b: str | os.PathLike,
    learn,  # any fastai Learner, such as that of `default_learner`
    layer=None,  # see `find_layer`; default: the last convolutional stage
    *,
    show: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:  # (h, w) float32 cosines of each image
    """Which regions of two images agree: for each place the cosine with the most similar place of the other image.

    From the activations of the layer that embeddings come from; draws both with their maps. Raises `UnreadableImage`.
    """
    regions = agreeing_regions(a, b, learn, layer)
    maps = tuple(torch.from_numpy(region.map) for region in regions)
    if show:
        show_maps((a, b), maps, boxes=[region.box for region in regions])
    return maps


def agreeing_regions(
    a: str | os.PathLike,
    b: str | os.PathLike,
    learn,  # fastai Learner, or nn.Module with `tfm`
    layer=None,  # see `find_layer`; default: the last convolutional stage, or a transformer's last tokens
    tfm: Callable | None = None,  # from a PIL image to a tensor (c, h, w), where `learn` is an nn.Module
) -> tuple[Region, Region]:  # of each image
    "The maps of `explain_pair` with their places on the images, as the model's transforms may crop or pad them."
    model, inputs, _ = looker(learn, tfm)
    device = next(model.parameters()).device
    (x, x_box), (y, y_box) = (seen_of(inputs, path, device) for path in (a, b))
    found = agreement_maps(*_activations(model, (x, y), layer))
    return tuple(Region(m.cpu().numpy(), box) for m, box in zip(found, (x_box, y_box), strict=True))


def explainer(
    source,  # fastai Learner, or nn.Module with `tfm`; else what `read_source` takes: a model is built for each pair
    layer=None,  # see `find_layer`
    tfm: Callable | None = None,
    arch: str = PACKAGED,  # where `source` is neither Learner nor nn.Module
) -> Callable[[os.PathLike, os.PathLike], tuple[Region, Region]]:
    "`agreeing_regions` of two paths, for `Groups.explain`; keeps no model, so that yours goes when you let it go."
    owns = isinstance(source, torch.nn.Module) or hasattr(source, "model")
    kept = weakref.ref(source) if owns else None
    dls = source if hasattr(source, "loaders") else None
    del source  # whose images may be many

    def explain(a: os.PathLike, b: os.PathLike) -> tuple[Region, Region]:
        learn = kept() if kept else default_learner(dls or Items.from_paths([a, b]), arch)
        if learn is None:
            raise ValueError(
                "the model that looked at these images is gone; keep it in a variable, and call from_similars again"
            )
        return agreeing_regions(a, b, learn, layer, tfm)

    return explain


def _activations(
    model: torch.nn.Module, xs: Sequence[torch.Tensor], layer
) -> list[torch.Tensor]:  # (k, h, w)
    "What the layer returns for each image."
    seen: list[torch.Tensor] = []
    with evaluating(model), torch.no_grad():
        module = find_layer(model, xs[0], layer)
        handle = module.register_forward_hook(lambda _module, _input, out: seen.append(out.detach()))
        try:
            for x in xs:
                model(x)
        finally:
            handle.remove()
    maps = [as_maps(out.float(), x.shape[-2] / x.shape[-1]) for out, x in zip(seen, xs, strict=True)]
    if any(m.ndim != 4 for m in maps):
        raise ValueError(
            f"the layer returns {tuple(seen[0].shape)}; name one that returns maps (bs, k, h, w)"
        )
    return [m[0] for m in maps]


def show_maps(
    paths: Sequence[str | os.PathLike],
    maps: Sequence[torch.Tensor],
    one_scale: bool = True,  # False: each map from its own darkest to its own brightest
    boxes: Sequence[Box | None] = (None, None),  # where each map lies on its image; None: all over it
):
    "A matplotlib figure of two images with their maps over them."
    import matplotlib.pyplot as plt

    limits = (min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)) if one_scale else None
    figure, axes = plt.subplots(ncols=2, figsize=(8, 4))
    for ax, path, cam, box in zip(axes, paths, maps, boxes, strict=True):
        show_cam(open_image(path), cam, ax, limits=limits, box=box)
    return figure
