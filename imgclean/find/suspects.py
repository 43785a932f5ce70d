"""From a model's probabilities to the images whose label is in doubt, with the reason. Knows no Learner."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..dataset.items import Items
from .groups import Suspect
from .labels import NEED_NEIGHBOURS, check_probs, label_scores, neighbour_shares, ranked
from .similarity import nearest

NEIGHBOURS = 10  # whose labels are compared


class Given(NamedTuple):
    "The labels of a dataset beside the columns of its probabilities"

    classes: tuple[str, ...]  # names of the columns
    rows: np.ndarray | None  # (n, c) bool; None: nobody labelled them
    several: bool  # whether an image may have several labels


def find_suspects(
    probs: np.ndarray,  # (n, c) probabilities, row k of items[k]
    items: Items,
    given: Given,
    *,
    by: str = "self-confidence",  # see `label_scores`
    n: int | None = None,  # at most so many; None: all images
    losses: np.ndarray | None = None,  # (n,) a Learner's own, for by="loss"
    vectors: np.ndarray | None = None,  # (n, d) embeddings, for by="neighbours" and "combined"
) -> list[Suspect]:  # indices of items, most doubtful first
    "The items whose label is most doubtful, each with what the model and the neighbours say in words."
    if n is not None and n < 1:
        raise ValueError(f"{n} images are asked for; ask for at least one, or None for all")
    if len(probs) != len(items):
        raise ValueError(f"probs have {len(probs)} rows for {len(items)} images; give one row an image")
    probs = check_probs(probs, several=given.several)
    shares = None
    if by in NEED_NEIGHBOURS and vectors is not None and given.rows is not None:
        shares = _shares(vectors, given.rows)
    scores = label_scores(probs, given.rows, by, shares=shares, several=given.several)
    if by == "loss" and losses is not None:
        scores = -_losses(losses, len(items))
    key, found = items.key(), []
    for k in ranked(scores)[:n].tolist():
        said = [f"loss {-scores[k]:.2f}"] if by == "loss" else []
        said.append(_of_model(probs[k], given, k))
        if shares is not None:
            said.append(_of_neighbours(shares[k], given, k))
        predicted = ";".join(given.classes[c] for c in _predicted(probs[k], given.several))
        found.append(Suspect(k, float(scores[k]), predicted, "; ".join(said), key))
    return found


def predicted_labels(probs: np.ndarray, given: Given) -> list[str]:
    "What the model says of each image; several classes are joined by ';'."
    return [";".join(given.classes[c] for c in _predicted(p, given.several)) for p in probs]


def read_items(
    source: Items | Iterable[str | os.PathLike], labels: Sequence | np.ndarray | None, given: Given
) -> Items:
    "`source`, paths or Items, with the labels that are given as names of classes."
    source = source if isinstance(source, Items) else Items.from_paths(source)
    if labels is None:
        return source
    if len(labels) != len(source):
        raise ValueError(f"there are {len(labels)} labels for {len(source)} images; give one an image")
    names = tuple(";".join(given.classes[c] for c in np.flatnonzero(row)) or None for row in given.rows)
    return replace(source, labels=names, label_delim=";" if given.several else source.label_delim)


def own_labels(items: Items | Iterable) -> tuple[str | None, ...] | None:
    "The labels of `items`, None where they are paths or nobody labelled one."
    labels = items.labels if isinstance(items, Items) else ()
    return labels if any(label is not None for label in labels) else None


def read_labels(
    labels: Sequence
    | np.ndarray
    | None,  # names or columns; several an image as (n, c) 0 and 1, or as lists of names
    probs: np.ndarray,  # (n, c)
    classes: Sequence[str] | None = None,  # their names; default: the distinct labels, sorted
    delim: str | None = None,  # joins several labels of an image in one text
) -> Given:
    "`labels` as rows of 0 and 1, one column a class; `ValueError` where they do not fit the probabilities."
    n_classes = check_probs(probs, several=True).shape[1]
    labels = None if labels is None else [_plain(label, delim) for label in labels]
    several = labels is not None and any(isinstance(label, (list, tuple, set)) for label in labels)
    names = _names(labels, several, n_classes, classes)
    if labels is None:
        return Given(names, None, False)
    if several and _are_indicators(labels, n_classes):
        return Given(names, np.array(labels, dtype=bool).reshape(-1, n_classes), True)
    rows, column = np.zeros((len(labels), n_classes), dtype=bool), {name: c for c, name in enumerate(names)}
    for k, label in enumerate(labels):
        for one in label if several else [label]:
            c = column.get(one) if isinstance(one, str) else one
            if c is None or not 0 <= c < n_classes:
                raise ValueError(
                    f"image {k} has the label {one!r}, which is none of the {n_classes} classes {', '.join(names[:8])}"
                )
            rows[k, c] = True
    return Given(names, rows, several)


def _plain(label, delim: str | None):
    if delim and (label is None or isinstance(label, str)):
        return [one for one in (label or "").split(delim) if one]
    return label.tolist() if hasattr(label, "tolist") else label


def _are_indicators(labels: list, n_classes: int) -> bool:
    return all(len(row) == n_classes and set(row) <= {0, 1} for row in labels)


def _names(labels: list | None, several: bool, n_classes: int, classes) -> tuple[str, ...]:
    "The names of the columns."
    if classes is None:
        flat = {one for label in labels or () for one in (label if several else [label])}
        texts = sorted(one for one in flat if isinstance(one, str))
        classes = texts or [str(c) for c in range(n_classes)]
    if len(classes) != n_classes:
        raise ValueError(
            f"probs have {n_classes} columns and there are {len(classes)} classes; give classes=, the name of each column"
        )
    return tuple(map(str, classes))


def _shares(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:  # (n, c)
    if len(vectors) != len(rows):
        raise ValueError(f"there are {len(vectors)} vectors for {len(rows)} images; give one an image")
    index, cosine = nearest(np.asarray(vectors), min(NEIGHBOURS, max(len(vectors) - 1, 1)))
    return neighbour_shares(index, cosine, rows)


def _losses(losses: np.ndarray, n: int) -> np.ndarray:
    losses = np.asarray(losses, dtype=np.float64)
    if losses.shape != (n,) or not np.isfinite(losses).all():
        raise ValueError(f"losses have the shape {losses.shape} or hold NaN; give {n} numbers, one an image")
    return losses


def _predicted(p: np.ndarray, several: bool) -> list[int]:
    return np.flatnonzero(p >= 0.5).tolist() if several else [int(p.argmax())]


def _of_model(p: np.ndarray, given: Given, k: int) -> str:
    "The classes that the model finds likeliest, and that of the label."
    label = [] if given.rows is None else np.flatnonzero(given.rows[k]).tolist()
    best = np.argsort(-p, kind="stable")[:2].tolist()
    shown = _predicted(p, True) if given.several else best[:1] if label and best[0] not in label else best
    shown = dict.fromkeys([*shown, *label])
    return "model: " + (", ".join(f"{given.classes[c]} {percent(p[c])}" for c in shown) or "no class")


def _of_neighbours(share: np.ndarray, given: Given, k: int) -> str:
    label = np.flatnonzero(given.rows[k]).tolist()
    shown = dict.fromkeys([int(share.argmax()), *label])
    return "neighbours: " + ", ".join(f"{given.classes[c]} {percent(share[c])}" for c in shown)


def percent(p: float) -> str:
    "A probability in words that are never surer than it is."
    if 0 < p < 0.01:
        return "under 1 %"
    return f"{min(round(100 * p), 99 if p < 1 else 100)} %"
