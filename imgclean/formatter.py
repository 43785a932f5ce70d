"""`DatasetFormatter`: fastai v1's names for the way from a Learner to groups of images worth a look."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import perf_counter

import numpy as np
from fastai.layers import AdaptiveConcatPool2d
from fastai.vision.all import DataLoaders, Learner
from torch import nn

from . import __version__
from .cascade import SURE, Found, NoPictures, find_duplicates
from .dataset.facts import Facts, protected_items, with_frames_noted
from .dataset.items import Items
from .dataset.sources import read_source
from .features.activations import embed
from .features.backbones import PACKAGED, default_learner
from .features.predictions import check_classifier, predict, split_of
from .find.calibrate import check_precision
from .find.clusters import find_pairs
from .find.explain import explainer
from .find.groups import Groups, Suspect, group_pairs
from .find.keepers import Keep, check_keep
from .find.labels import NEED_NEIGHBOURS, check_ranking
from .find.similarity import cosines, similar_pairs
from .find.suspects import Given, find_suspects, own_labels, predicted_labels, read_items, read_labels
from .given import with_defaults

log = logging.getLogger(__name__)
MIN_PRECISION = 0.99
# Measured in docs/benchmarks.md: at this cosine the packaged backbone joined no two different photos.
MIN_SIMILARITY = 0.85


class DatasetFormatter:
    "Builds what `ImageCleaner` shows: a dataset, and the indices of its images that are worth a look"

    @classmethod
    def from_similars(
        cls,
        learn: Learner
        | nn.Module  # with `tfm` and `look_at`
        | DataLoaders
        | Items
        | str
        | os.PathLike,  # or whatever `read_source` takes; not a Learner: `default_learner` looks at it
        layer: nn.Module
        | str
        | Sequence
        | None = None,  # module, dotted name, v1's index list, a list of these; None finds it
        pool: Callable[[int], nn.Module] | None = AdaptiveConcatPool2d,  # None: no pooling
        pool_dim: int = 1,  # 4 with the last convolutional block is the article's pipeline
        n: int | None = None,  # the `n` most similar pairs by cosine
        min_similarity: float | None = None,  # all pairs of at least this cosine
        *,
        min_precision: float
        | None = None,  # share of true pairs, after a second look at each; 0.99 where nothing cuts by cosine
        method: str = "auto",  # "exact" or "clusters", see `find_pairs`; the `n` best are always exact
        layer_ls: Sequence[int] | None = None,  # v1's name for `layer`
        recipe: str | None = None,  # "article": its pool_dim=4 and its number of pairs, one for each image
        arch: str | None = None,  # model for `default_learner`, where `learn` is no Learner
        look_at: Items | str | os.PathLike | None = None,  # images or folder, in place of the Learner's own
        keep: Keep
        | None = None,  # which image of a group stays: a policy's name or a function (docs/keepers.md); "best"
        protect: str
        | os.PathLike
        | Iterable[str | os.PathLike] = (),  # files and folders that stay in any case
        ds_idx: int | None = None,  # 0 training, 1 validation set alone; default: every image of the Learner
        tfm: Callable | None = None,  # from a PIL image to a tensor (c, h, w), where `learn` is an nn.Module
        precision: str
        | None = None,  # "fp32", "bf16", "fp32-compile", …; None: the fastest that agrees with fp32
        dtype: str = "float32",  # of the embeddings; "float16" halves them
        max_pixels: int | None = None,  # larger images are unreadable; None: Pillow's limit
        bs: int = 64,  # images in a batch
        num_workers: int | None = None,  # processes that look side by side
        progress: bool = True,
        cache: bool
        | str
        | os.PathLike = True,  # never look twice: vectors in the user's cache folder; or a folder
    ) -> tuple[Items, Groups]:
        """The dataset, and the groups of its most similar images: tuples of item indices, the one to keep first.

        By default each image's nearest have a second look, and the groups hold copies of one picture, see
        `verified_groups_of`. With `n`, `min_similarity` or `recipe` it is the cosine similarity of every pair in the
        lower triangle alone. `idxs.pairs` holds the pairs behind the groups, `idxs.settings` what was
        used; images that cannot be read are in `ds.unreadable` and in no group. `imgclean.toml` in the dataset's folder
        gives keep, protect and min_precision where they are not given.
        Source: fastai v1 `DatasetFormatter.from_similars`; "How to build an image duplicate finder", F. Ingham, 2018.
        """
        if layer is not None and layer_ls is not None:
            raise ValueError(
                "layer and layer_ls are both given; layer_ls is fastai v1's name for layer, give one"
            )
        if recipe not in (None, "article"):
            raise ValueError(f"recipe is {recipe!r}; the only one is 'article'")
        by_cosine = n is not None or min_similarity is not None or recipe is not None
        if min_precision is not None and by_cosine:
            raise ValueError(
                "min_precision is given with n, min_similarity or recipe, which cut by cosine; give one of them"
            )
        if min_precision is not None:
            check_precision(min_precision)  # before the long work
        if keep is not None:
            check_keep(keep)
        source, (items, learn) = learn, _sources(learn, look_at, arch, ds_idx)
        keep, protected, share = with_defaults(items, keep, protect)  # before the long work
        if min_precision is None and not by_cosine:
            min_precision = share
        if recipe == "article":
            pool_dim = 4
        start = perf_counter()
        seen = embed(
            learn, items, layer if layer_ls is None else layer_ls, pool, pool_dim,
            tfm=tfm, precision=precision, dtype=dtype, bs=bs, num_workers=num_workers, max_pixels=max_pixels,
            progress=progress, cache=cache,
        )  # fmt: skip
        looked = perf_counter() - start
        if not len(seen.items):
            bad = seen.items.unreadable[-1]
            n_bad = len(seen.items.unreadable)
            raise ValueError(
                f"none of the {n_bad} images can be read; the last one is {bad.path.name}: {bad.error}"
            )
        items = with_frames_noted(seen.items)
        for note in items.notes:
            log.warning("%s", note)
        protect = [path for path in items.paths if path in protected]
        if by_cosine:
            groups = groups_of(
                seen.vectors, items, n=len(items) if recipe and n is None and min_similarity is None else n,
                min_similarity=min_similarity, method=method, keep=keep, protect=protect, progress=progress,
            )  # fmt: skip
        else:
            again = dict(
                tfm=tfm, precision=seen.precision, dtype=dtype, bs=bs, num_workers=num_workers, cache=cache
            )
            layers = seen.layer.split(" + ")  # found already

            def look(more: Items) -> tuple[np.ndarray, Items]:
                label = progress and "edited copies"
                copies = embed(learn, more, layers, pool, pool_dim, progress=label, **again)
                return copies.vectors, copies.items

            groups = _verified_or_alike(
                seen.vectors, items, look,
                min_precision=min_precision, keep=keep, protect=protect, cache=cache, num_workers=num_workers,
                progress=progress,
            )  # fmt: skip
        groups.seconds, groups.computed = {"look": looked} | groups.seconds, seen.computed
        groups.settings |= {
            "arch": arch_name(learn), "layer": seen.layer, "precision": seen.precision, "pool_dim": pool_dim if pool else None,
            "pool": getattr(pool, "__name__", str(pool)) if pool else None,
        }  # fmt: skip
        groups.explain = explainer(source, seen.layer.split(" + ")[-1], tfm, arch or PACKAGED)
        return items, groups

    @classmethod
    def from_toplosses(
        cls,
        learn: Learner,
        n_imgs: int | None = None,  # at most so many; None or 0: all
        ds_idx: int | None = None,  # 0 training, 1 validation set alone; default: every image of the Learner
        *,
        by: str = "loss",  # one of `labels.RANKINGS`; "combined" finds most, see docs/labels.md
        look_at: Items | str | os.PathLike | None = None,  # labelled images, in place of the Learner's own
        progress: bool = True,
    ) -> tuple[Items, list[Suspect]]:
        """The dataset, and the indices of its images, highest loss first; each tells its `reason` in the grid.

        A Learner knows the labels it was trained on by heart: give it images that it was not trained on.
        Source: fastai v1 `DatasetFormatter.from_toplosses`.
        """
        check_ranking(by)
        check_classifier(learn)
        items, vectors = _sources(learn, look_at, None, ds_idx)[0], None
        if look_at is None:  # nothing can be said of a test set without labels
            names = zip(items.labels, items.splits, strict=True)
            items = items.subset(
                [k for k, (label, s) in enumerate(names) if label is not None or s != "test"]
            )
        if by in NEED_NEIGHBOURS:
            looked = embed(learn, items, progress=progress, cache=True)
            items, vectors = looked.items, looked.vectors
        seen = predict(learn, items, losses=True, progress=progress)
        given = read_labels(seen.items.labels, seen.probs, seen.classes, ";" if seen.several else None)
        found = find_suspects(
            seen.probs, seen.items, given, by=by, n=n_imgs or None, losses=seen.losses, vectors=vectors
        )
        return seen.items, found

    @classmethod
    def from_most_unsure(
        cls,
        learn: Learner,
        num: int = 50,
        *,
        look_at: Items | str | os.PathLike | None = None,  # images or folder, labelled or not
        progress: bool = True,
    ) -> tuple[Items, list[Suspect], list[str], list[str]]:
        """The `num` images whose two likeliest classes are closest: dataset, indices, classes, predicted labels.

        Of `look_at`, else of the Learner's test set, else of its validation set. The tuple is what `PredictionsCorrector`
        takes. Source: fastai v1 `DatasetFormatter.from_most_unsure`.
        """
        check_classifier(learn)
        items = _sources(learn, look_at, None, None)[0]
        if look_at is None:
            items = next((part for name in ("test", "valid") if len(part := split_of(items, name))), items)
        seen = predict(learn, items, progress=progress)
        given = Given(seen.classes, None, seen.several)
        found = find_suspects(seen.probs, seen.items, given, by="margin", n=num)
        return seen.items, found, list(seen.classes), predicted_labels(seen.probs, given)

    @classmethod
    def from_probs(
        cls,
        probs: np.ndarray,  # (n, c) probabilities of images that the model was not trained on
        labels: Sequence
        | np.ndarray
        | None,  # (n,) names or columns; several as (n, c) 0 and 1, or lists of names; None: those of `items`
        items: Items | Iterable[str | os.PathLike],  # or their paths, row k of probs is the k-th
        by: str = "self-confidence",  # one of `labels.RANKINGS`
        *,
        classes: Sequence[str] | None = None,  # names of the columns; default: the distinct labels, sorted
        vectors: np.ndarray | None = None,  # (n, d) embeddings, for "neighbours" and "combined"
        n: int | None = None,  # at most so many
    ) -> tuple[Items, list[Suspect]]:
        "The dataset, and the indices of its images, most doubtful label first, for probabilities from anywhere."
        labels = own_labels(items) if labels is None else labels
        given = read_labels(labels, probs, classes, getattr(items, "label_delim", None))
        ds = read_items(items, labels, given)
        return ds, find_suspects(probs, ds, given, by=by, n=n, vectors=vectors)


def groups_of(
    vectors: np.ndarray,  # (n, d) float, row k embeds items[k]
    items: Items,
    *,
    n: int | None = None,
    min_similarity: float | None = MIN_SIMILARITY,
    method: str = "auto",  # see `find_pairs`
    keep: Keep = "best",  # which image of a group stays: a policy's name or a function (docs/keepers.md)
    protect: str | os.PathLike | Iterable[str | os.PathLike] = (),  # files and folders that stay in any case
    progress: bool = True,
) -> Groups:
    """`Groups` of the items whose `vectors` are most alike, for embeddings from anywhere.

    `method="auto"` searches exactly as long as that can be afforded; `settings` tell which method it was, and its
    expected recall.
    """
    check_keep(keep)
    protected = protected_items(items, protect)
    _check_rows(vectors, items)
    if len(items) < 2:
        vectors = np.zeros((2, 1))  # alike to nothing
    start = perf_counter()
    searched = {"method": "exact", "expected_recall": 1.0}
    if n is not None or min_similarity is None:
        pairs = similar_pairs(vectors, n=n, min_similarity=min_similarity, progress=progress)
    else:
        pairs, choice = find_pairs(vectors, min_similarity=min_similarity, method=method, progress=progress)
        searched = {"method": choice.method, "expected_recall": choice.expected_recall}

    settings = {"min_similarity": min_similarity, "n": n, "pairs_left_out": pairs.left_out, **searched}
    complete = n is None and not pairs.left_out and searched["method"] == "exact"
    compared = perf_counter() - start
    groups = _grouped(pairs, vectors, items, complete, keep, protected, settings)
    groups.seconds = {"compare": compared}
    return groups


def verified_groups_of(
    vectors: np.ndarray,  # (n, d) float, row k embeds items[k]
    items: Items,
    look: Callable[
        [Items], tuple[np.ndarray, Items]
    ],  # embeds other images alike: vectors, and the readable ones
    *,
    min_precision: float = MIN_PRECISION,  # share of the pairs that shall be true
    keep: Keep = "best",
    protect: str | os.PathLike | Iterable[str | os.PathLike] = (),
    cache: bool
    | str
    | os.PathLike = False,  # never look at a pair twice: in the user's cache folder; or a folder
    num_workers: int | None = None,  # threads of the second look
    progress: bool = True,
) -> Groups:
    """`Groups` of images that show the same picture, by a second look at each image's nearest neighbours.

    `pairs` are those above the cut, by probability; `found` holds what was done to each, all candidates and the
    calibration, see `cascade.find_duplicates`. Images of one group may differ by any edit. Raises
    `cascade.NoPictures` where the files are no pictures.
    """
    check_keep(keep)
    _check_rows(vectors, items)
    protected = protected_items(items, protect)
    found = find_duplicates(
        vectors, items, look,
        min_precision=min_precision, cache=cache, num_workers=num_workers, progress=progress,
    )  # fmt: skip

    def regroup(found: Found) -> Groups:
        settings = {
            "min_precision": min_precision, "cut": found.cut, "calibrated": found.calibration is not None
        }  # fmt: skip
        sure = found.pairs.score >= SURE
        groups = _grouped(found.pairs, vectors, items, True, keep, protected, settings, sure)
        groups.found, groups.seconds, groups.regroup = found, found.seconds, regroup
        return groups

    return regroup(found)


def _check_rows(vectors: np.ndarray, items: Items) -> None:
    if len(vectors) != len(items):
        raise ValueError(
            f"there are {len(vectors)} vectors for {len(items)} images; give one row for each image"
        )


def _verified_or_alike(
    vectors, items: Items, look, *, min_precision: float | None, keep: Keep, protect, **settings
) -> Groups:
    "Groups after a second look; by cosine where that is impossible and nobody insisted on it."
    try:
        share = MIN_PRECISION if min_precision is None else min_precision
        return verified_groups_of(
            vectors, items, look, min_precision=share, keep=keep, protect=protect, **settings
        )
    except NoPictures as err:
        if min_precision is not None:
            raise
        log.warning("%s; now those of a cosine of at least %s are shown", err, MIN_SIMILARITY)
        return groups_of(vectors, items, keep=keep, protect=protect, progress=settings.get("progress", True))


def _grouped(
    pairs, vectors, items: Items, complete: bool, keep: Keep, protected, settings: dict, verified=None
) -> Groups:
    def to_keeper(keeper: int, rest: list[int]) -> Iterable[float]:
        return cosines(vectors, np.full(len(rest), keeper), np.array(rest, dtype=np.int64)).tolist()

    settings = {
        "imgclean": __version__,
        **settings,
        "keep": keep if isinstance(keep, str) else getattr(keep, "__name__", type(keep).__name__),
        "protected": len(protected),
    }
    groups = group_pairs(
        pairs, partial(Facts, items), to_keeper,
        verified=verified, complete=complete, keep=keep, protected=protected,
    )  # fmt: skip
    key = items.key()  # hashes every path: once
    for group in groups:
        group.dataset = key
    groups = Groups(groups, pairs, settings)
    groups.protected = frozenset(protected)
    return groups


def arch_name(learn: Learner | nn.Module) -> str:
    "What a Learner calls its architecture, else the class of its model."
    arch = getattr(learn, "arch", None)
    model = getattr(learn, "model", learn)
    return arch if isinstance(arch, str) else getattr(arch, "__name__", type(model).__name__)


def _sources(learn, look_at, arch: str | None, ds_idx: int | None) -> tuple[Items, Learner | nn.Module]:
    "The items to look at and what looks at them."
    owns = isinstance(learn, (Learner, nn.Module))
    if owns and arch:
        raise ValueError(
            f"arch is {arch!r}, but a {type(learn).__name__} is given, which brings its own model; give one of them"
        )
    if look_at is None and isinstance(learn, nn.Module):
        raise ValueError(
            f"a {type(learn).__name__} holds no images; give look_at=, the folder or the Items to look at"
        )
    items = read_source(learn if look_at is None else look_at)
    if not owns:
        learn = default_learner(learn if isinstance(learn, DataLoaders) else items, arch or PACKAGED)
    if ds_idx is not None:
        split = {0: "train", 1: "valid"}.get(ds_idx)
        if split is None or split not in items.splits:
            raise ValueError(
                f"ds_idx is {ds_idx}, for which there are no images; give 0 (training) or 1 (validation)"
            )
        items = items.subset([k for k, s in enumerate(items.splits) if s == split])
    return items, learn
