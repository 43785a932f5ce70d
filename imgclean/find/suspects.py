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
    classes: Sequence
    | None = None,  # their names; default: pandas's categories, else the distinct labels, sorted
    delim: str | None = None,  # joins several labels of an image in one text
) -> Given:
    """`labels` as rows of 0 and 1, one column a class; `ValueError` where they do not fit the probabilities.

    Whole numbers are names where `classes` holds numbers, else columns; True and False are names.
    """
    n_classes = check_probs(probs, several=True).shape[1]
    if classes is None and delim is None:
        classes = getattr(getattr(labels, "dtype", None), "categories", None)  # pandas's know their order
    classes = None if classes is None else [_plain(name) for name in classes]
    labels = None if labels is None else [_plain(label, delim) for label in labels]
    several = labels is not None and any(isinstance(label, list) for label in labels)
    listed = [_listed(label, k) if several else [label] for k, label in enumerate(labels or ())]
    given_as_rows = several and all(_is_indicator(row, n_classes) for row in listed)
    names = _names([] if given_as_rows else listed, n_classes, classes)
    if labels is None:
        return Given(names, None, False)
    if given_as_rows:
        return Given(names, np.array(listed, dtype=bool).reshape(-1, n_classes), True)
    rows, column = np.zeros((len(labels), n_classes), dtype=bool), _columns(names, classes)
    for k, ones in enumerate(listed):
        for one in ones:
            c = column.get(_key(one))
            if c is None:
                raise ValueError(_unknown(one, k, names))
            rows[k, c] = True
    return Given(names, rows, several)


def _plain(label, delim: str | None = None):
    "A label as Python has it: a text, a number, or a list of these."
    label = label.tolist() if hasattr(label, "tolist") else label  # NumPy's and torch's
    if delim and (_is_missing(label) or isinstance(label, str)):
        return [] if _is_missing(label) else [one for one in label.split(delim) if one]
    if isinstance(label, Iterable) and not isinstance(label, (str, bytes)):
        return [_plain(one) for one in label]
    return label


def _listed(label, k: int) -> list:
    "The labels of image `k`, where images have several."
    if isinstance(label, list):
        return label
    if _is_missing(label):
        return []
    raise ValueError(f"image {k} has the label {label!r} and other images have lists; give each image a list")


def _unknown(label, k: int, names: Sequence[str]) -> str:
    wanted = "a label, or leave it out" if _is_missing(label) else "the name or the column of its class"
    some = ", ".join(names[:8])
    return f"image {k} has the label {label!r}, which is none of the {len(names)} classes {some}; give it {wanted}"


def _is_missing(label) -> bool:
    # pandas's NA, which is compared with nothing, is known by name: importing pandas takes long.
    return label is None or type(label).__name__ == "NAType" or (isinstance(label, float) and label != label)


def _is_indicator(row: list, n_classes: int) -> bool:
    return len(row) == n_classes and all(isinstance(one, (int, float)) and one in (0, 1) for one in row)


def _key(label) -> str | int | None:
    "What a label is looked up by; None where it can be no label."
    if isinstance(label, (str, bool)):
        return str(label)
    whole = isinstance(label, int) or (isinstance(label, float) and label.is_integer())
    return int(label) if whole else None


def _columns(names: Sequence[str], classes: list | None) -> dict[str | int, int]:
    "The column of each label: names, and numbers, which are names as well where the classes are numbers."
    numbers = [(key, c) for c, name in enumerate(classes or ()) if isinstance(key := _key(name), int)]
    return {name: c for c, name in enumerate(names)} | dict(numbers or ((c, c) for c in range(len(names))))


def _names(listed: list[list], n_classes: int, classes: list | None) -> tuple[str, ...]:
    "The names of the columns."
    if classes is None:
        flat = [one for ones in listed for one in ones]
        texts = {one for one in flat if isinstance(one, str)}
        if any(isinstance(one, bool) for one in flat):
            texts |= {"False", "True"}  # also where only one of them occurs
        classes = sorted(texts) or range(n_classes)
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
