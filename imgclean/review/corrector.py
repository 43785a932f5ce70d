"""`PredictionsCorrector`: what a model predicted, corrected by a person. No widget code: the grid is `ImageCleaner`'s."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ..dataset.cleaned import FOLDER
from ..dataset.images import open_image
from ..dataset.items import Items
from .apply import Applied
from .cleaner import ImageCleaner
from .session import Review

LEDGER = "predictions.jsonl"  # corrections of predictions are no decisions about the dataset's own labels
NO_CSV = "PredictionsCorrector writes no cleaned.csv; take .corrected_labels()"


class Corrections(Review):
    "What a person says that images are, which holds whatever a model predicts later; the items' labels are predictions."

    def __init__(self, items: Items, groups, path: Path, *, ledger: str | os.PathLike):
        # A label in the ledger holds as long as the dataset's own is the same: here there is none of its own.
        super().__init__(replace(items, labels=(None,) * len(items)), groups, path, ledger=ledger)
        self.items = items

    @property
    def relabeled(self) -> dict[int, str]:
        "The label of each item of which a person says something else than the prediction."
        return {k: label for k, label in super().relabeled.items() if label != self.items.labels[k]}

    def plan(self, action: str = "csv") -> dict:
        "Raises `ValueError`: predictions are none of the dataset's labels."
        raise ValueError(NO_CSV)

    def apply(self, lose_groups: bool | Collection[int] = False, *, action: str = "csv") -> Applied:
        "Raises `ValueError`: predictions are none of the dataset's labels."
        raise ValueError(NO_CSV)

    def _own(self, k: int, label: str | None) -> str | None:
        return label  # also where it is the prediction: another model may predict something else


class PredictionsCorrector(ImageCleaner):
    """The grid with the predicted label of each image to be corrected; nothing is deleted, no `cleaned.csv` written.

    `corrections` hold what was changed, `corrected_labels()` every label, both as text. Call shape of fastai v1.
    """

    _review_class = Corrections

    def __init__(
        self,
        dataset: Items,
        fns_idxs: Iterable[int],  # which images to show
        classes: Sequence,  # what may be chosen; numbers are taken as their text
        labels: Sequence,  # the predicted label of every image of `dataset`
        batch_size: int = 5,
        *,
        path: str | os.PathLike | None = None,  # folder of the corrections; default: the dataset's root
        ledger: str | os.PathLike | None = None,  # file; default `path/.imgclean/predictions.jsonl`
    ):
        labels = tuple(map(_text, labels))
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
        self.vocab, self.deletes, self.applies = list(map(_text, classes)), False, False

    @property
    def corrections(self) -> dict[int, str]:
        "New label of each image that was corrected."
        return self.relabeled

    def corrected_labels(self) -> list[str]:
        "The label of every image of the dataset, corrected where a person did so."
        return [self.review.label_of(k) for k in range(len(self.review.items))]

    def _send_plan(self, message: dict) -> None:
        refused = {"type": "refused", "seq": None, "view": message.get("view"), "text": NO_CSV}
        self.send(refused | {"counts": self._counts()})
        self._send_page({"page": 0})  # the view, which asked, stops waiting

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


def _text(label) -> str | None:
    label = label.tolist() if hasattr(label, "tolist") else label  # NumPy's and torch's numbers
    return None if label is None else str(label)
