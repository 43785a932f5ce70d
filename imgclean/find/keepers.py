"""Which image of a group to keep, and why, in words. Knows facts only, opens no file."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from ..dataset.wording import human_bytes

Facts = Mapping[str, Any]  # of one image, such as `dataset.facts.Facts`
Keep = str | Callable[[dict[int, Facts]], int | tuple[int, str]]


class Criterion(NamedTuple):
    "A number of an image, larger is better, with the words for one that has the most and for all that have as much"

    value: Callable[[Facts, Counter], Any]  # (facts, how many of the group have each label)
    won: Callable[[Facts, Counter], str]
    tied: Callable[[Facts, Counter], str]


def _sharpness(f: Facts) -> float:
    return float(f"{f['sharpness']:.2g}")  # saving a JPEG again changes the third digit


def _seconds(f: Facts) -> float:
    return (f["time"] - datetime.min).total_seconds()  # `timestamp` fails before 1970 on Windows


def _when(f: Facts) -> str:
    return f"{f['time']:%Y-%m-%d %H:%M}, {f['time_from']}"


def _in_split(split: str) -> Criterion:
    return Criterion(
        lambda f, _: f["split"] == split,
        lambda f, _: f"in {split}",
        lambda f, _: f"all in {split}" if f["split"] == split else f"none in {split}",
    )


def _of_most(f: Facts, labels: Counter) -> str:
    others = ", ".join(f"{n} {label}" for label, n in sorted(labels.items()) if label != f["label"])
    most = f"label {f['label']}, as {labels[f['label']]} of {sum(labels.values())} labelled"
    return f"{most} (others: {others})" if others else most


def _labels_tie(f: Facts, labels: Counter) -> str:
    return f"labels tie ({', '.join(sorted(labels))})" if len(labels) > 1 else "same label"


_PIXELS = Criterion(
    lambda f, _: f["width"] * f["height"],
    lambda f, _: f"most pixels ({f['width']}×{f['height']})",
    lambda f, _: "as many pixels",
)
_BYTES = Criterion(
    lambda f, _: f["bytes"],
    lambda f, _: f"largest file ({human_bytes(f['bytes'])})",
    lambda f, _: "same file size",
)
_DEFAULT = (_PIXELS, _BYTES)
_POLICIES = {
    "best": _DEFAULT,
    "largest": (_BYTES, _PIXELS),
    "sharpest": (
        Criterion(
            lambda f, _: _sharpness(f),
            lambda f, _: f"sharpest (variance of the Laplacian {_sharpness(f):g})",
            lambda f, _: "equally sharp",
        ),
        *_DEFAULT,
    ),
    "oldest": (
        Criterion(lambda f, _: -_seconds(f), lambda f, _: f"oldest ({_when(f)})", lambda f, _: "same time"),
        *_DEFAULT,
    ),
    "newest": (
        Criterion(lambda f, _: _seconds(f), lambda f, _: f"newest ({_when(f)})", lambda f, _: "same time"),
        *_DEFAULT,
    ),
    "metadata": (
        Criterion(
            lambda f, _: f["metadata"],
            lambda f, _: f"most metadata ({f['metadata']} EXIF entries)",
            lambda f, _: "as much metadata" if f["metadata"] else "no metadata",
        ),
        *_DEFAULT,
    ),
    "train": (_in_split("train"), *_DEFAULT),
    "valid": (_in_split("valid"), *_DEFAULT),
    "label": (
        Criterion(lambda f, labels: labels[f["label"]] if f["label"] else 0, _of_most, _labels_tie),
        *_DEFAULT,
    ),
}
POLICIES = tuple(_POLICIES)


def check_keep(keep: Keep) -> None:
    "Raises `ValueError` for a policy that there is not."
    if not callable(keep) and keep not in POLICIES:
        raise ValueError(f"keep is {keep!r}; give one of {', '.join(POLICIES)}, or a function of the facts")


def choose_keeper(
    facts: Mapping[int, Facts],  # item -> what is known of it
    keep: Keep = "best",  # a name of `POLICIES`, or a function of `facts` that gives an item or (item, reason)
    protected: Collection[int] = (),  # items that stay in any case: one of them is the keeper
) -> tuple[int, str]:  # (item, reason)
    """The item to keep and the reason in words: what the policy prefers, then most pixels, bytes, lowest index.

    "best" is most pixels, then bytes; "largest" most bytes; "oldest" and "newest" go by EXIF time, else the file's;
    "label" by the label that most of the group have. Raises `ValueError` for an unknown policy or item.
    """
    check_keep(keep)
    safe = [k for k in sorted(facts) if k in protected]
    some = {k: facts[k] for k in safe or sorted(facts)}
    if callable(keep):
        best, reason = _answer(keep(dict(some)), some)
    elif len(safe) == 1:
        return safe[0], "protected"
    else:
        labels = Counter(f["label"] for f in facts.values() if f["label"]) if keep == "label" else Counter()
        best, reason = _best(_POLICIES[keep], some, labels)
    return best, f"protected; {reason}" if safe else reason


def _best(
    criteria: tuple[Criterion, ...], facts: dict[int, Facts], labels: Counter
) -> tuple[int, str]:  # facts in order of the items
    left, reason, tied = list(facts), "", []
    for criterion in criteria:
        values = {k: criterion.value(facts[k], labels) for k in left}
        left = [k for k in left if values[k] == max(values.values())]
        if reason:
            continue
        if len(set(values.values())) > 1:
            reason = ", ".join([*tied, criterion.won(facts[left[0]], labels)])
        else:
            tied.append(criterion.tied(facts[left[0]], labels))
    return left[0], reason or ", ".join([*tied[: -len(_DEFAULT)], "same size, first in the dataset"])


def _answer(answer: Any, facts: dict[int, Facts]) -> tuple[int, str]:
    "What a function of the user's chose, checked."
    best, reason = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, "chosen by keep")
    if not hasattr(best, "__index__") or operator.index(best) not in facts:
        raise ValueError(f"keep returned {answer!r}; return one of {list(facts)}, or it and the reason")
    return operator.index(best), str(reason)
