"""`ClassConfusion`: the images that a model takes for another class, in the grid. No widget code of its own."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from itertools import permutations

import numpy as np

from ..dataset.items import Items
from ..find.groups import Suspect
from .cleaner import ImageCleaner
from .filters import Filter

log = logging.getLogger(__name__)


class ClassConfusion(ImageCleaner):
    """The grid with the images of some classes that were taken for another of them, highest loss first.

    `confusions` lists them by (predicted, actual); the toolbar or `show_pair` chooses one. The dataset is every image of
    the Learner, so that `cleaned.csv` is complete. Call shape of fastai v1.
    """

    def __init__(
        self,
        interp,  # fastai `Interpretation` or `ClassificationInterpretation`
        classlist: Sequence,  # classes, of which all pairs are looked at; with `is_ordered` pairs (predicted, actual)
        is_ordered: bool = False,
        cut_off: int = 100,  # images of a pair
        varlist: None = None,  # fastai v1's for tabular data; there is none here
        figsize: tuple[float, float] = (8, 8),  # inches, of `plot`
        *,
        path: str | os.PathLike | None = None,  # gets `cleaned.csv`; default: the dataset's root
        batch_size: int = 5,
    ):
        from ..features.predictions import interpreted  # opens torch and fastai, which no other review needs

        if not all(hasattr(interp, name) for name in ("learn", "dl", "losses")):
            raise TypeError(
                f"got a {type(interp).__name__}; give ClassificationInterpretation.from_learner(learn)"
            )
        if varlist is not None:
            raise ValueError("varlist chooses columns of a table; leave it out, this shows images")
        if cut_off < 1:
            raise ValueError(f"cut_off is {cut_off}; show at least one image of a pair")
        seen = interpreted(interp)
        if seen.several:
            raise ValueError(
                "the model gives an image several labels; ClassConfusion is for one label an image"
            )
        self.figsize, self.classlist, self._classes = figsize, list(classlist), seen.classes
        pairs = _pairs(classlist, is_ordered, seen.classes)
        items, place = _in_whole(seen.items, interp.learn.dls)
        key = items.key()
        self.confusions = {
            pair: [Suspect(place[k], k.score, k.predicted, k.reason, key) for k in ks]
            for pair, ks in _confused(seen, pairs, cut_off).items()
        }
        suspects = sorted((k for ks in self.confusions.values() for k in ks), key=lambda k: (k.score, int(k)))
        super().__init__(items, suspects, path, batch_size)

    def show_pair(self, predicted: str | None = None, actual: str | None = None) -> list[int]:
        """The images that the grid now shows: those `predicted` as one class that are labelled `actual`; None is any.

        Raises `ValueError` for a class that the model does not know.
        """
        predicted, actual = (name if name is None else str(name) for name in (predicted, actual))
        _check_known([name for name in (predicted, actual) if name is not None], self._classes)
        self._set_filter({"fields": {"predicted": predicted, "actual": actual}})
        return [
            self.review.groups[g][0] for g in self.review.select(Filter(predicted=predicted, actual=actual))
        ]

    def plot(self, ax=None):
        "How many images of each (predicted, actual) pair are shown, as a matrix on matplotlib's `ax` or a new figure."
        import matplotlib.pyplot as plt

        names = sorted({name for pair in self.confusions for name in pair})
        counts = np.array([[len(self.confusions.get((p, a), ())) for p in names] for a in names])
        ax = ax or plt.subplots(figsize=self.figsize)[1]
        ax.imshow(counts, cmap="Blues")
        ax.set(xlabel="predicted", ylabel="actual", yticks=range(len(names)), yticklabels=names)
        ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
        for (row, column), count in np.ndenumerate(counts):
            ax.text(column, row, count or "", ha="center", va="center")
        return ax


def _pairs(classlist: Sequence, is_ordered: bool, classes: Sequence[str]) -> list[tuple[str, str]]:
    "The pairs (predicted, actual) to look at."
    try:
        pairs = (
            [(str(p), str(a)) for p, a in classlist]
            if is_ordered
            else list(permutations(map(str, classlist), 2))
        )
    except ValueError:
        raise ValueError(
            f"classlist holds {classlist[0]!r}; with is_ordered=True give pairs (predicted, actual)"
        ) from None
    if not pairs:
        raise ValueError(f"classlist is {list(classlist)}; give at least two classes")
    _check_known([name for pair in pairs for name in pair], classes)
    return pairs


def _check_known(names: Sequence[str], classes: Sequence[str]) -> None:
    unknown = next((name for name in names if name not in classes), None)
    if unknown is not None:
        raise ValueError(f"the model does not know the class {unknown!r}; it knows {', '.join(classes[:8])}")


def _in_whole(seen: Items, dls) -> tuple[Items, Sequence[int]]:  # fastai `DataLoaders`
    "Every image of `dls`, and which of them each of `seen` is; `seen` itself where some are not among them."
    try:
        whole = Items.from_dls(dls)
    except ValueError:  # an exported Learner holds no images
        return seen, range(len(seen))
    at = defaultdict(list)
    for k, image in enumerate(zip(whole.paths, whole.labels, strict=True)):
        at[image].append(k)
    # A file that is listed twice is taken from the end, where fastai has the validation set.
    place = [at[image].pop() if at[image] else None for image in zip(seen.paths, seen.labels, strict=True)]
    if None in place:
        log.warning(
            "cleaned.csv will list the %d images of the Interpretation alone, without the Learner's %d: %d of them are not the Learner's",
            len(seen), len(whole), place.count(None),
        )  # fmt: skip
        return seen, range(len(seen))
    bad = {unreadable.path: unreadable.error for unreadable in seen.unreadable}
    gone = {k: bad[path] for k, path in enumerate(whole.paths) if path in bad}
    stays = np.cumsum([k not in gone for k in range(len(whole))]) - 1
    return whole.without(gone), stays[place].tolist()


def _confused(seen, pairs: list[tuple[str, str]], cut_off: int) -> dict[tuple[str, str], list[Suspect]]:
    "The images of each pair that has some, highest loss first; pairs with most images first."
    from ..find.suspects import find_suspects, read_labels

    given = read_labels(seen.items.labels, seen.probs, seen.classes)
    found: dict[tuple[str, str], list[Suspect]] = {pair: [] for pair in pairs}
    for k in find_suspects(seen.probs, seen.items, given, by="loss", losses=seen.losses):
        images = found.get((k.predicted, seen.items.labels[k]))
        if images is not None and len(images) < cut_off:
            images.append(k)
    return dict(sorted(((pair, ks) for pair, ks in found.items() if ks), key=lambda entry: -len(entry[1])))
