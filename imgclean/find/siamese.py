"""Siamese networks: how surely are two images of one class? Transform, model and Learner of the fourth article."""

from __future__ import annotations

import logging
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from fastai.layers import AdaptiveConcatPool2d
from fastai.vision.all import (
    AvgMetric,
    CrossEntropyLossFlat,
    IntToFloatTensor,
    L,
    LabelSmoothingCrossEntropyFlat,
    Learner,
    Module,
    Normalize,
    PILImage,
    Pipeline,
    Resize,
    ResizeMethod,
    TfmdLists,
    ToTensor,
    Transform,
    accuracy,
    create_head,
    dispatch,
    fastuple,
    get_grid,
    params,
    show_image,
)
from PIL import Image
from torch import nn

from ..dataset.images import open_image, reading_errors
from ..dataset.items import Items
from ..features.activations import embed
from ..features.backbones import PACKAGED, SIZE, default_learner, evaluating
from .pairs import Pairs
from .splits import leak_free_splitter

log = logging.getLogger(__name__)
BATCH = 4096  # pairs that the head sees at a time


class SiameseImage(fastuple):
    "Two images, and whether they are of one class"

    def show(self, ctx=None, title: str | None = None, **kwargs):
        "Draws both side by side on matplotlib's axis `ctx`, by default with 'same' or 'different' above them."
        a, b, *same = self
        a, b = (_picture(x) for x in (a, b))
        b = b.resize((max(1, round(b.width * a.height / b.height)), a.height))
        line = np.full((a.height, max(2, a.width // 40), 3), 255, np.uint8)
        if title is None and same:
            title = "same" if int(same[0]) else "different"
        return show_image(np.hstack([np.asarray(a), line, np.asarray(b)]), ctx=ctx, title=title, **kwargs)


@dispatch
def show_batch(x: SiameseImage, y, samples, ctxs=None, max_n=6, nrows=None, ncols=2, figsize=None, **kwargs):
    "Draws up to `max_n` pairs of a batch, and returns their axes."
    n = min(max_n, len(x[0]))
    if ctxs is None:
        ctxs = get_grid(n, nrows=nrows, ncols=ncols, figsize=figsize)
    return [
        SiameseImage(*(part[k] for part in x)).show(ctx=ctx) for k, ctx in zip(range(n), ctxs, strict=False)
    ]


class SiameseTransform(Transform):
    """From a file to a `SiameseImage`: with another file, of the same class for half of them.

    Files of the validation set keep their partner, from that set; the others meet a new one each time.
    Source: "Image similarity: theory and code", and fastai's tutorial on siamese networks.
    """

    def __init__(
        self,
        files: Sequence[str | os.PathLike],
        splits: Sequence[Sequence[int]],  # indices of the training and of the validation set
        label_func: Callable[[str | os.PathLike], str],
        seed: int = 42,  # of the partners in the validation set
    ):
        self.label_func = label_func
        self.train, self.held_out = (_by_label([files[k] for k in part], label_func) for part in splits[:2])
        for name, part in (("training", self.train), ("validation", self.held_out)):
            if len(part) < 2:
                raise ValueError(
                    f"the {name} set has images of {len(part)} classes; give images of at least two"
                )
        rng = random.Random(seed)
        self.valid = {files[k]: self._draw(files[k], self.held_out, rng) for k in splits[1]}

    def encodes(self, file) -> SiameseImage:
        "`file` and another, and whether both are of one class."
        other, same = self.valid.get(file) or self._draw(file, self.train, random)
        return SiameseImage(*(PILImage(open_image(f)) for f in (file, other)), int(same))

    def _draw(self, file, part: dict[str, list], rng) -> tuple[object, bool]:
        "Another file, and whether it is of the same class; a class of one image has none."
        label = self.label_func(file)
        same = rng.random() < 0.5 and len(part[label]) > 1
        wanted = label if same else rng.choice([name for name in part if name != label])
        choices = part[wanted]
        other = rng.choice(choices)
        while same and other == file:
            other = rng.choice(choices)
        return other, same


class SiameseModel(Module):
    "One encoder for both images, and a head that sees both encodings: logits of 'different' and 'same'"

    def __init__(self, encoder: nn.Module, head: nn.Module):
        self.encoder, self.head = encoder, head

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:  # (bs, 2)
        return self.head(torch.cat([self.encoder(a), self.encoder(b)], dim=1))

    def compare(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:  # (bs, 2 nf) each -> (bs, 2)
        """The same from encodings that were pooled before, maxima first, as `AdaptiveConcatPool2d` returns them.

        Pooling looks at each channel by itself, so it may come before the two are put together.
        """
        (a_max, a_mean), (b_max, b_mean) = a.chunk(2, 1), b.chunk(2, 1)
        return self.head[2:](torch.cat([a_max, b_max, a_mean, b_mean], dim=1))


def siamese_splitter(model: SiameseModel) -> list[list[nn.Parameter]]:
    "The parameters in two groups, encoder and head, for fastai's freezing and learning rates."
    return [params(model.encoder), params(model.head)]


def siamese_learner(
    source: str | os.PathLike | Iterable | Items,  # folder, files, or items
    label_func: Callable[[str | os.PathLike], str] | None = None,  # default: the items' labels, or folders
    arch: str = PACKAGED,  # any timm or torchvision name
    pretrained: bool = True,
    *,
    size: int = SIZE,  # pixels a side
    bs: int = 32,  # pairs
    valid_pct: float = 0.2,
    seed: int = 42,
    label_smoothing: bool = False,
    fp16: bool = False,  # mixed precision, for CUDA
    num_workers: int | None = None,
    **kwargs,  # passed on to fastai's `Learner`
) -> Learner:
    """A Learner that tells whether two images are of one class; the encoder is frozen, `fit_one_cycle` trains the head.

    Items with splits keep them; others are split at random. Unreadable files are left out and listed in
    `learn.dls.imgclean_items.unreadable`. Raises `ValueError` for fewer than two classes.
    """
    items = _readable(_labelled(source, label_func))
    splits = _splits(items, valid_pct, seed)
    names = dict(zip(items.paths, items.labels, strict=True))
    eye = default_learner(items, arch, pretrained, size)
    tfm = SiameseTransform(items.paths, splits, names.__getitem__, seed)
    normalize = [t for t in eye.dls.after_batch.fs if isinstance(t, Normalize)]
    dls = TfmdLists(items.paths, tfm, splits=splits).dataloaders(
        bs=min(bs, len(splits[0])),
        after_item=[Resize(size, method=ResizeMethod.Squish), ToTensor],
        after_batch=[IntToFloatTensor, *normalize],
        num_workers=num_workers,
        device=eye.dls.device,
    )
    dls.imgclean_items = items
    encoder = eye.model[0]
    with torch.no_grad():
        nf = encoder.eval()(torch.zeros(1, 3, size, size, device=dls.device)).shape[1]
    model = SiameseModel(encoder, create_head(2 * nf, 2, ps=0.5))
    model.eye = arch, size  # goes with the model into an exported Learner
    loss = LabelSmoothingCrossEntropyFlat() if label_smoothing else CrossEntropyLossFlat()
    learn = Learner(dls, model, loss_func=loss, splitter=siamese_splitter, metrics=accuracy, **kwargs)
    learn.freeze()
    return learn.to_fp16() if fp16 else learn


def classifier_learner(
    source: str | os.PathLike | Iterable | Items,  # folder, files, or items
    label_func: Callable[[str | os.PathLike], str] | None = None,  # default: the items' labels, or folders
    arch: str = PACKAGED,
    pretrained: bool = True,
    *,
    size: int = SIZE,  # pixels a side
) -> Learner:
    "A frozen `default_learner` with the accuracy as its metric, to be trained to tell the class of an image."
    learn = default_learner(_readable(_labelled(source, label_func)), arch, pretrained, size)
    learn.metrics = L(AvgMetric(accuracy))
    return learn


def encodings(
    learn: Learner,  # of `siamese_learner`
    items: Items,
    **settings,  # `cache`, `num_workers`, `progress` … of `embed`
) -> tuple[np.ndarray, Items]:  # (n, 2 nf) float32, and the n readable items
    "Pooled encodings of images, from which `siamese_scores` takes the answer without looking again."
    return encoded(eye_of(learn, items), items, **settings)


def encoded(
    eye: Learner,  # of `eye_of`
    items: Items,
    **settings,  # `cache`, `num_workers`, `progress` … of `embed`
) -> tuple[np.ndarray, Items]:  # (n, 2 nf) float32, and the n readable items
    "The same `encodings`, by an eye that is there already."
    seen = embed(eye, items, [0], AdaptiveConcatPool2d, 1, **settings)
    return seen.vectors, seen.items


def eye_of(learn: Learner, items: Items) -> Learner:
    "A Learner whose model is the encoder, and which looks at single images as `learn` looks at pairs."
    arch, size = learn.model.eye
    eye = default_learner(items, arch, pretrained=False, size=size)
    own = [t for t in learn.dls.after_batch.fs if isinstance(t, Normalize)]
    rest = [t for t in eye.dls.after_batch.fs if not isinstance(t, Normalize)]
    for dl in eye.dls.loaders:
        dl.after_batch = Pipeline([*rest, *own])
    eye.model = nn.Sequential(learn.model.encoder)
    return eye


def siamese_scores(
    learn: Learner,
    a: np.ndarray,  # (n, 2 nf) `encodings`
    b: np.ndarray,  # (n, 2 nf)
) -> np.ndarray:  # (n,) float64 probabilities of one class
    "How surely each row of `a` and of `b` are of one class, whichever comes first."
    model, found = learn.model, [np.empty(0)]
    device = next(model.head.parameters()).device
    with evaluating(model), torch.no_grad():
        for k in range(0, len(a), BATCH):
            x, y = (torch.from_numpy(np.array(z[k : k + BATCH], np.float32)).to(device) for z in (a, b))
            logits = model.compare(torch.cat([x, y]), torch.cat([y, x])).float()
            found.append(logits.softmax(1)[:, 1].view(2, -1).mean(0).double().cpu().numpy())
    return np.concatenate(found)


def siamese_pairs(
    learn: Learner,  # of `siamese_learner`
    candidates: Pairs,  # of `items`, such as those of `similar_pairs`
    items: Items,
    **settings,  # `cache`, `num_workers`, `progress` … of `embed`
) -> Pairs:
    """The `candidates` with the probability of being of one class for a score, so that the grid can rank by it.

    Pairs with an image that cannot be read are left out.
    """
    named = np.unique(np.concatenate([candidates.i, candidates.j]))
    if not len(named):
        return candidates
    vectors, seen = encodings(learn, items.subset(named.tolist()), **settings)
    row = {path: k for k, path in enumerate(seen.paths)}
    rows = np.array([[row.get(items.paths[k], -1) for k in side] for side in (candidates.i, candidates.j)])
    there = (rows >= 0).all(axis=0)
    scores = siamese_scores(learn, vectors[rows[0, there]], vectors[rows[1, there]])
    return Pairs.of(candidates.i[there], candidates.j[there], scores, candidates.left_out)


def _picture(x: Image.Image | torch.Tensor) -> Image.Image:
    "RGB of a PIL image or a decoded tensor (3, h, w), whole numbers to 255 or parts of 1."
    if isinstance(x, Image.Image):
        return x.convert("RGB")
    x = x.detach().cpu().float() * (255 if x.is_floating_point() else 1)
    return Image.fromarray(x.clamp(0, 255).round().byte().permute(1, 2, 0).numpy())


def _by_label(files: Iterable, label_func: Callable) -> dict[str, list]:
    found = defaultdict(list)
    for file in dict.fromkeys(files):  # one that is listed twice is no pair
        found[label_func(file)].append(file)
    return dict(found)


def _labelled(source, label_func: Callable | None) -> Items:
    "`source` as items of which each has a label."
    if isinstance(source, (str, os.PathLike)):
        items = Items.from_folder(source)
    else:
        items = source if isinstance(source, Items) else Items.from_paths(source)
    if label_func is not None:
        items = replace(items, labels=tuple(str(label_func(path)) for path in items.paths))
    bare = sum(label is None for label in items.labels)
    if bare:
        raise ValueError(
            f"{bare} of {len(items)} images have no label; give label_func=, from a path to its label"
        )
    return items


def _readable(items: Items) -> Items:
    errors = reading_errors(items.paths)
    if errors:
        log.warning("%d of %d images cannot be read and are left out", len(errors), len(items))
    return items.without(errors)


def _splits(items: Items, valid_pct: float, seed: int) -> tuple[list[int], list[int]]:
    valid = [k for k, split in enumerate(items.splits) if split == "valid"]
    if valid:
        return [k for k, split in enumerate(items.splits) if split in ("train", None)], valid
    return leak_free_splitter([], valid_pct, seed=seed)(items)  # each class on both sides
