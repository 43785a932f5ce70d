"""Labels in doubt without a trained model: a linear one on what the network sees, asked about images it has not met."""

from __future__ import annotations

import logging
import os
from collections import Counter

import numpy as np

from .dataset.items import Items
from .dataset.sources import read_source
from .features.activations import embed
from .features.backbones import PACKAGED, default_learner
from .find.groups import Suspect
from .find.labels import check_ranking
from .find.probe import cross_validated_probs
from .formatter import DatasetFormatter

log = logging.getLogger(__name__)


def find_label_errors(
    source,  # labelled images: whatever `read_source` takes
    n: int | None = 50,  # at most so many; None: all
    by: str = "combined",  # one of `labels.RANKINGS`
    *,
    arch: str | None = None,  # timm or torchvision model that looks; default: the packaged one
    progress: bool = True,
    cache: bool | str | os.PathLike = True,  # never look twice: in the user's cache folder; or a folder
) -> tuple[Items, list[Suspect]]:
    """The dataset, and the indices of the images whose label is most doubtful, for `ImageCleaner`.

    Nothing has to be trained before: see `cross_validated_probs`. Images without a label, and those that are alone in
    their class, are not judged, which is said. Raises `ValueError` where images have several labels.
    """
    check_ranking(by)
    items = read_source(source)
    if items.label_delim:
        raise ValueError(
            "the images have several labels; give probabilities of your own to DatasetFormatter.from_probs"
        )
    seen = embed(default_learner(items, arch or PACKAGED), items, progress=progress, cache=cache)
    count = Counter(seen.items.labels)
    kept = [k for k, label in enumerate(seen.items.labels) if label is not None and count[label] > 1]
    if len({seen.items.labels[k] for k in kept}) < 2:
        raise ValueError(
            f"{len(kept)} of {len(seen.items)} images have a label that others have as well, in fewer than two classes; "
            "give a folder for each class, or a table with a column label"
        )
    if len(kept) < len(seen.items):
        log.warning(
            "%d images have no label or one of their own; they are not judged", len(seen.items) - len(kept)
        )
    judged, vectors = seen.items.subset(kept), seen.vectors[kept]
    classes, labels = np.unique(np.array(judged.labels), return_inverse=True)
    probs = cross_validated_probs(vectors, labels)
    found = DatasetFormatter.from_probs(
        probs, None, judged, by, classes=[str(c) for c in classes], vectors=vectors, n=n
    )[1]
    # Of all images, so that a `cleaned.csv` is complete.
    key = seen.items.key()
    return seen.items, [Suspect(kept[k], k.score, k.predicted, k.reason, key) for k in found]
