"""Why two images are alike, as maps over both: what a siamese head goes by, and which regions agree."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from ..dataset.images import open_image
from ..dataset.items import Items
from ..features.backbones import evaluating, find_layer
from ..features.inputs import batch_of
from .cams import agreement_maps, class_activation_map, grad_cam, show_cam
from .siamese import eye_of

SAME = 1  # the head's class


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
    xs = [batch_of(learn, path) for path in (a, b)]
    seen: list[torch.Tensor] = []
    with evaluating(learn.model), torch.no_grad():
        module = find_layer(learn.model, xs[0], layer)
        handle = module.register_forward_hook(lambda _module, _input, out: seen.append(out.detach()))
        try:
            for x in xs:
                learn.model(x)
        finally:
            handle.remove()
    if any(maps.ndim != 4 for maps in seen):
        raise ValueError(
            f"the layer returns {tuple(seen[0].shape)}; name one that returns maps (bs, k, h, w)"
        )
    maps = tuple(m.cpu() for m in agreement_maps(seen[0][0], seen[1][0]))
    if show:
        show_maps((a, b), maps)
    return maps


def show_maps(
    paths: Sequence[str | os.PathLike],
    maps: Sequence[torch.Tensor],
    one_scale: bool = True,  # False: each map from its own darkest to its own brightest
):
    "A matplotlib figure of two images with their maps over them."
    import matplotlib.pyplot as plt

    limits = (min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)) if one_scale else None
    figure, axes = plt.subplots(ncols=2, figsize=(8, 4))
    for ax, path, cam in zip(axes, paths, maps, strict=True):
        show_cam(open_image(path), cam, ax, limits=limits)
    return figure
