"""Other tools on the same images, at the settings that they come with."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import NamedTuple
from unittest import mock

import typer
from fastai.vision.all import Learner
from torch import nn

from ..dataset.items import Items
from ..features.backbones import SIZE, default_learner
from ..find.pairs import Pairs
from .scores import Keys, pair, within

PACKAGES = ("imagededup", "cleanvision")
# Where rankings end: different photos rarely get as near, and a tool that lists all pairs needs much memory.
LOOSE_BITS = 24
LOOSE_COSINE = 0.3


class Answer(NamedTuple):
    "What a tool says of a folder"

    pairs: Keys  # that it takes for duplicates
    ranked: Pairs | None  # more pairs, with scores; None: it has no scores
    seconds: float  # for `pairs`, from the files on


def check_installed(*packages: str, option: str) -> None:
    missing = [name for name in packages if not find_spec(name)]
    if missing:
        raise typer.BadParameter(f"{option} needs {' and '.join(missing)}; pip install {' '.join(missing)}")


def ask_peers(items: Items) -> dict[str, Answer]:
    "The answers of imagededup's PHash, its CNN with imgclean's own network, and cleanvision, by name and setting."
    imagededup()  # importing is not timed
    return {
        "imagededup PHash, max_distance_threshold 10": phash(items),
        "imagededup CNN, min_similarity_threshold .9": cnn(items),
        "cleanvision, exact and near duplicates": cleanvision(items),
    }


def phash(items: Items) -> Answer:
    start = perf_counter()
    tool = imagededup().PHash(verbose=False)
    codes = tool.encode_images(items.root, recursive=True)
    found = _found(tool, codes)
    seconds = perf_counter() - start
    loose = _found(tool, codes, max_distance_threshold=LOOSE_BITS, scores=True)
    near = {key: 1 - bits / 64 for key, bits in _scored(items, loose).items()}
    return Answer(_keys(items, found), _pairs(near), seconds)


def cnn(items: Items) -> Answer:
    start = perf_counter()
    tool = same_network(default_learner(items), SIZE)
    codes = tool.encode_images(items.root, recursive=True)
    found = _found(tool, codes)
    seconds = perf_counter() - start
    loose = _found(tool, codes, min_similarity_threshold=LOOSE_COSINE, scores=True)
    return Answer(_keys(items, found), _pairs(_scored(items, loose)), seconds)


def cleanvision(items: Items) -> Answer:
    from cleanvision import Imagelab

    start, kinds = perf_counter(), ("exact_duplicates", "near_duplicates")
    lab = Imagelab(data_path=str(items.root), verbose=False)
    lab.find_issues({kind: {} for kind in kinds}, verbose=False)
    seconds = perf_counter() - start
    at = {str(path.absolute()): k for k, path in enumerate(items.paths)}
    sets = [[at[path] for path in paths if path in at] for kind in kinds for paths in lab.info[kind]["sets"]]
    return Answer(within(sets), None, seconds)


def imagededup():
    "The module of its methods, whose import fetches the weights of a model that is not used here."
    from torchvision import models

    small = models.mobilenet_v3_small
    with mock.patch.object(models, "mobilenet_v3_small", lambda weights=None: small()):
        from imagededup import methods
    return methods


def same_network(learn: Learner, size: int):
    "imagededup's CNN with the Learner's body, the mean of its last maps, and images squeezed alike."
    methods = imagededup()
    from imagededup.utils import CustomModel
    from torchvision import transforms

    stats = learn.dls.after_batch.fs[-1]
    tfm = transforms.Compose(
        [
            transforms.Resize((size, size)),
            transforms.ToTensor(),
            transforms.Normalize(stats.mean.flatten().tolist(), stats.std.flatten().tolist()),
        ]
    )
    model = nn.Sequential(learn.model[0], nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    return methods.CNN(verbose=False, model_config=CustomModel(name="same", model=model, transform=tfm))


def _found(tool, codes: dict, **settings) -> dict[str, list]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it warns of an argument that nobody gave
        return tool.find_duplicates(encoding_map=codes, **settings)


def _listed(items: Items, found: dict[str, Iterable]) -> Iterable[tuple[int, int, float]]:
    "Items and scores of what imagededup lists by file, both ways round; no score is 0."
    at = {items.relpath(k): k for k in range(len(items))}
    for name, others in found.items():
        for other in others:
            other, value = other if isinstance(other, tuple) else (other, 0.0)
            a, b = at.get(Path(name).as_posix()), at.get(Path(other).as_posix())
            if a is not None and b is not None:
                yield a, b, float(value)


def _keys(items: Items, found: dict[str, Iterable]) -> Keys:
    return {pair(a, b) for a, b, _ in _listed(items, found)}


def _scored(items: Items, found: dict[str, Iterable]) -> dict[tuple[int, int], float]:
    return {pair(a, b): value for a, b, value in _listed(items, found)}


def _pairs(scored: dict[tuple[int, int], float]) -> Pairs:
    i, j = zip(*scored, strict=True) if scored else ((), ())
    return Pairs.of(i, j, [*scored.values()])
