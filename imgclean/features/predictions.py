"""What a Learner predicts of images, and its losses, row k of item k. Ranks nothing, and leaves the Learner as it was."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from fastai.vision.all import (
    DataLoaders,
    Datasets,
    EncodedMultiCategorize,
    Learner,
    MultiCategorize,
    TfmdLists,
    noop,
)

from ..dataset.images import reading_errors
from ..dataset.items import Items
from .backbones import evaluating
from .inputs import LearnerInputs


class Predictions(NamedTuple):
    "What `predict` hands on; row k belongs to the k-th readable image"

    probs: np.ndarray  # (n, c) float32
    losses: np.ndarray | None  # (n,) float32; None where they were not asked for
    classes: tuple[str, ...]  # the names of the columns
    several: bool  # whether an image may have several of them
    items: Items  # the n readable images; the others are in `items.unreadable`


def predict(
    learn: Learner,
    items: Items,
    *,
    losses: bool = False,  # whether the Learner's loss of each image's label is wanted
    bs: int | None = None,  # images in a batch; None: as the Learner's
    progress: bool = True,
) -> Predictions:
    """`Predictions` of a Learner for `items`, in their order, through its own transforms for validation.

    Losses are those of `learn.loss_func`, image by image. The mode of the model and the attributes of the Learner are
    afterwards what they were. Raises `ValueError` where the Learner has no classes, no loss or a loss of other things.
    """
    classes, several = check_classifier(learn), _knows_several(learn)
    targets = _targets(items, classes, several) if losses else None
    with evaluating(learn.model), _unchanged(learn), nullcontext() if progress else learn.no_bar():
        raw, errors = _raw(learn, items.paths, bs)
        if raw.ndim != 2 or raw.shape[1] != len(classes):
            raise ValueError(
                f"the Learner returns {tuple(raw.shape[1:])} numbers an image for {len(classes)} classes; give one that classifies"
            )
        probs = _activation(learn, several)(raw)
        loss = None
        if losses:
            good = [k for k in range(len(items)) if k not in errors]
            loss = _losses(learn, raw, targets[good])
    return Predictions(probs.cpu().float().numpy(), loss, classes, several, items.without(errors))


def split_of(items: Items, wanted: str) -> Items:
    "The items of one split."
    return items.subset([k for k, split in enumerate(items.splits) if split == wanted])


def interpreted(interp, progress: bool = True) -> Predictions:  # a fastai `Interpretation`
    "`Predictions` of the images that an `Interpretation` is about, with its own losses."
    items = Items.from_dls(DataLoaders(interp.dl, path=interp.learn.dls.path))
    return predict(interp.learn, items, progress=progress)._replace(losses=interp.losses.cpu().numpy())


def check_classifier(learn: Learner) -> tuple[str, ...]:
    "The names of a Learner's classes, one a column of its probabilities."
    if not isinstance(learn, Learner):
        raise TypeError(
            f"got a {type(learn).__name__}; give a fastai Learner, or probabilities to DatasetFormatter.from_probs"
        )
    if getattr(learn, "loss_func", None) is None:
        raise ValueError("the Learner has no loss_func; build it with one, such as CrossEntropyLossFlat()")
    vocab = getattr(learn.dls, "vocab", None)
    if not vocab or not all(isinstance(name, (str, int, float, np.generic)) for name in vocab):
        raise ValueError("the Learner knows no classes; give one that was made to classify images")
    return tuple(map(str, vocab))


def _knows_several(learn: Learner) -> bool:
    ds = learn.dls.loaders[-1].dataset
    stages = [tfm for tl in getattr(ds, "tls", ())[1:] for tfm in tl.tfms.fs]
    return any(isinstance(tfm, (MultiCategorize, EncodedMultiCategorize)) for tfm in stages)


@contextmanager
def _unchanged(learn: Learner):
    "What a pass leaves behind in a Learner, such as its last batch, is gone afterwards."
    before = {**vars(learn), "cbs": learn.cbs[:]}  # `no_bar` puts another bar back than it took
    try:
        yield
    finally:
        vars(learn).clear()
        vars(learn).update(before)
        for cb in learn.cbs:  # `no_bar` has taken the Learner from its bar
            cb.learn = learn


def _raw(learn: Learner, paths: Sequence[Path], bs: int | None) -> tuple[torch.Tensor, dict[int, str]]:
    "The model's outputs (n, c) for the images that can be read, and why the others cannot."
    errors: dict[int, str] = {}
    while True:
        good = [path for k, path in enumerate(paths) if k not in errors]
        if not good:
            raise ValueError(
                "there are no images that can be read; give a folder or a Learner that holds some"
            )
        try:
            (raw, _) = learn.get_preds(dl=_dl(learn, good, bs), act=noop, reorder=False)
            return raw, errors
        except OSError:  # one of them is broken: fastai does not say which
            found = reading_errors(paths)
            if found == errors:
                raise
            errors = found


def _dl(learn: Learner, paths: Sequence[Path], bs: int | None):
    "A DataLoader of `paths`, in their order, through the Learner's transforms for validation."
    tl = TfmdLists(list(paths), LearnerInputs(learn).tfms, split_idx=1, do_setup=False)
    like = learn.dls.loaders[-1]
    return like.new(Datasets(tls=[tl]), shuffle=False, drop_last=False, **({} if bs is None else {"bs": bs}))


def _activation(learn: Learner, several: bool):
    "What turns outputs into probabilities: the loss's own, as fastai's have one, else that of its kind."
    usual = torch.sigmoid if several else partial(torch.softmax, dim=-1)
    return getattr(learn.loss_func, "activation", usual)


def _targets(items: Items, classes: Sequence[str], several: bool) -> torch.Tensor:
    "The labels as the Learner's loss takes them: (n,) columns, or (n, c) of 0 and 1."
    if not all(label is not None or several for label in items.labels):
        n = sum(label is None for label in items.labels)
        raise ValueError(
            f"{n} of {len(items)} images have no label, and without one there is no loss; rank them by from_most_unsure"
        )
    column = {name: c for c, name in enumerate(classes)}
    rows = [
        [one for one in (label or "").split(items.label_delim or ";") if one] if several else [label]
        for label in items.labels
    ]
    unknown = next((one for row in rows for one in row if one not in column), None)
    if unknown is not None:
        raise ValueError(
            f"the Learner does not know the label {unknown!r}; it knows {', '.join(classes[:8])}"
        )
    if not several:
        return torch.tensor([column[row[0]] for row in rows])
    found = torch.zeros(len(rows), len(classes))
    for k, row in enumerate(rows):
        found[k, [column[one] for one in row]] = 1
    return found


def _losses(learn: Learner, raw: torch.Tensor, targets: torch.Tensor) -> np.ndarray:  # (n,) float32
    "The loss of each image, several numbers an image averaged, as fastai does."
    device = next((p.device for p in learn.model.parameters()), raw.device)  # weights of classes are there
    with torch.no_grad():
        loss = _loss_of_each(learn, raw.to(device), targets.to(device))
    return loss.reshape(len(raw), -1).mean(1).float().cpu().numpy()


def _loss_of_each(
    learn: Learner, raw: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:  # n numbers or n c
    "As fastai takes it, by `reduction='none'`; a loss that knows none sees one image at a time."
    try:
        with learn.loss_not_reduced():
            loss = learn.loss_func(raw, targets)
        if loss.numel() >= len(raw):
            return loss
    except TypeError:
        pass
    return torch.stack([learn.loss_func(raw[k : k + 1], targets[k : k + 1]).mean() for k in range(len(raw))])
