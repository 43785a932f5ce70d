"""`PredictionsCorrector`: what a model predicted, corrected by a person. No widget code: the grid is `ImageCleaner`'s."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ..dataset.cleaned import FOLDER
from ..dataset.images import open_image
from ..dataset.items import Items
from .cleaner import ImageCleaner

LEDGER = "predictions.jsonl"  # corrections of predictions are no decisions about the dataset's own labels


class PredictionsCorrector(ImageCleaner):
    """The grid with the predicted label of each image to be corrected; nothing is deleted.

    `corrections` hold what was changed, `corrected_labels()` every label. Call shape of fastai v1.
    """

    def __init__(
        self,
        dataset: Items,
        fns_idxs: Iterable[int],  # which images to show
        classes: Sequence[str],  # what may be chosen
        labels: Sequence[str],  # the predicted label of every image of `dataset`
        batch_size: int = 5,
        *,
        path: str | os.PathLike | None = None,  # folder of the corrections; default: the dataset's root
        ledger: str | os.PathLike | None = None,  # file; default `path/.imgclean/predictions.jsonl`
    ):
        labels = tuple(labels)
        if len(labels) != len(dataset):
            raise ValueError(
                f"there are {len(labels)} labels for {len(dataset)} images; give the predicted label of each"
            )
        path = Path(dataset.root if path is None else path)
        super().__init__(
            replace(dataset, labels=labels),
            fns_idxs,
            path,
            batch_size,
            ledger=ledger or path / FOLDER / LEDGER,
        )
        self.vocab, self.deletes = list(classes), False

    @property
    def corrections(self) -> dict[int, str]:
        "New label of each image that was corrected."
        return self.relabeled

    def corrected_labels(self) -> list[str]:
        "The label of every image of the dataset, corrected where a person did so."
        return [self.review.label_of(k) for k in range(len(self.review.items))]

    def show_corrections(
        self,
        ncols: int = 4,
        **fig_kw,  # passed on to matplotlib's `subplots`
    ):
        "A matplotlib figure of the corrected images, each with its index, old and new label; None where there are none."
        import matplotlib.pyplot as plt

        items, corrections = self.review.items, self.corrections
        if not corrections:
            return None
        nrows = math.ceil(len(corrections) / ncols)
        figure, axes = plt.subplots(nrows, ncols, squeeze=False, **fig_kw)
        for ax in axes.flat:
            ax.axis("off")
        for ax, (k, new) in zip(axes.flat, corrections.items(), strict=False):
            ax.imshow(open_image(items.paths[k]))
            ax.set_title(f"{k}: {items.labels[k]} → {new}")
        return figure
