"""One pass of a Learner over images: hook a layer, pool each batch, keep one vector an image. Searches nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from fastai.callback.hook import hook_output
from fastai.layers import AdaptiveConcatPool2d
from fastai.vision.all import Learner, Pipeline
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from ..dataset.images import UnreadableImage, open_image
from ..dataset.items import Items, image_tfms, source_stage
from .backbones import evaluating, find_layer


class Embeddings(NamedTuple):
    "What a pass over images hands on; row k belongs to the k-th readable image"

    vectors: np.ndarray  # (n, d) float32
    items: Items  # the n readable images; the others are in `items.unreadable`
    layer: str  # dotted name of the hooked layer


def embed(
    learn: Learner,
    items: Items,
    layer: nn.Module | str | Sequence[int] | None = None,  # see `find_layer`
    pool: Callable[[int], nn.Module]
    | None = AdaptiveConcatPool2d,  # None: flatten the layer's output as it is
    pool_dim: int = 1,  # side of the pooled map; the article's is 4
    *,
    bs: int = 64,  # images in a batch
    num_workers: int | None = None,  # processes that decode; None: as many as cores, where that is safe
    progress: bool = True,  # a bar on stderr or in the notebook; never where stderr is no terminal
) -> Embeddings:
    """One float32 vector for each readable image: the hooked layer's output, pooled batch by batch, flattened.

    The images go through the Learner's own transforms for validation. Hook and train/eval mode are undone.
    Memory is n·d numbers and one batch. Raises `ValueError` for a layer that does not exist.
    """
    if not len(items):
        raise ValueError("there are no images to look at; give a folder or a Learner that holds some")
    looked = _Looked(learn, items.paths)
    loader = DataLoader(looked, bs, num_workers=_workers(num_workers, len(items)), collate_fn=looked.collate)
    pooling = pool(pool_dim) if pool else nn.Identity()
    vectors, name, errors, done = None, "", {}, 0
    device = next(learn.model.parameters()).device
    bar = tqdm(total=len(items), desc="looking", unit="img", disable=None if progress else True)
    with evaluating(learn.model), torch.no_grad(), bar:
        for xb, failed, size in loader:
            errors.update(failed)
            if xb is not None:
                xb = looked.to_batch(xb, device)
                if vectors is None:
                    module = find_layer(learn.model, xb, layer)
                    name = next(n for n, m in learn.model.named_modules() if m is module)
                out = _pooled(learn.model, module, pooling, xb)
                if vectors is None:
                    vectors = np.empty((len(items), out.shape[1]), dtype=np.float32)
                vectors[done : done + len(out)] = out.float().cpu().numpy()
                done += len(out)
            bar.update(size)
    if vectors is None:
        vectors = np.empty((0, 0), dtype=np.float32)
    return Embeddings(vectors[:done], items.without(errors), name)


def _pooled(model: nn.Module, layer: nn.Module, pooling: nn.Module, xb: torch.Tensor) -> torch.Tensor:
    with hook_output(layer) as hook:
        model(xb)
    maps = hook.stored  # (bs, c, h, w), or (bs, d) behind the head
    if not isinstance(maps, torch.Tensor):
        raise ValueError(
            f"layer {type(layer).__name__} returns {type(maps).__name__}, not one tensor; choose another"
        )
    return (pooling(maps) if maps.ndim == 4 else maps).flatten(1)  # (bs, d)


def _workers(asked: int | None, n: int) -> int:
    if asked is not None:
        return asked
    # Elsewhere processes are spawned and would have to pickle the Learner's transforms, lambdas included.
    can_fork = sys.platform == "linux"
    return min(os.cpu_count() or 1, 8) if can_fork and n >= 128 else 0


class _Looked(Dataset):
    "Images as the Learner sees them in validation, or the reason why one cannot be seen"

    def __init__(self, learn: Learner, paths: Sequence[Path]):
        dl = learn.dls.valid
        tl = image_tfms(dl.dataset if len(dl.dataset) else learn.dls.train.dataset)
        # Pipelines of our own over the Learner's transforms: the Learner's keep the split they are set to.
        self.tfms = Pipeline(tl.tfms.fs[source_stage(tl) :], split_idx=1)
        self.after_item = Pipeline(dl.after_item.fs, split_idx=1)
        self.after_batch = Pipeline(dl.after_batch.fs, split_idx=1)
        self.dls_device = learn.dls.device
        self.paths, self.mode = paths, _mode(self.tfms)
        self.cls = torch.Tensor

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, k: int) -> tuple[int, torch.Tensor | None, str]:
        try:
            image = open_image(self.paths[k])
        except UnreadableImage as err:
            return k, None, str(err)
        x = image.convert(self.mode) if self.mode else self.paths[k]
        return k, self.after_item((self.tfms(x),))[0], ""

    @staticmethod
    def collate(samples: list) -> tuple:  # (batch or None, {item: error}, images looked at)
        errors = {k: error for k, x, error in samples if x is None}
        xs = [x for _, x, _ in samples if x is not None]
        shapes = {tuple(x.shape) for x in xs}
        if len(shapes) > 1:
            raise ValueError(
                f"the Learner's transforms give images of different sizes, such as {sorted(shapes)[:2]}; "
                "build its DataLoaders with item_tfms=Resize(224)"
            )
        return (torch.stack(xs) if xs else None), errors, len(samples)

    def to_batch(self, xb: torch.Tensor, device: torch.device) -> torch.Tensor:
        "The batch after the Learner's batch transforms, on `device`."
        xb = self.after_batch((xb.to(self.dls_device or device),))[0].to(device)
        # Depthwise convolutions are faster on CPUs in this layout.
        return xb.contiguous(memory_format=torch.channels_last) if xb.ndim == 4 else xb


def _mode(tfms: Pipeline) -> str | None:
    """The Pillow mode in which the transforms take an opened image; None where they insist on a path.

    fastai's `PILImage.create` takes both. Opening files ourselves turns them upright and survives the formats
    that it does not; a Learner with a reader of its own keeps it.
    """
    try:
        return tfms(Image.new("RGB", (8, 8)))._open_args["mode"]
    except Exception:
        return None
