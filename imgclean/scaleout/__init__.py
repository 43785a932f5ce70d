"""Duplicates among more images than one machine can look at, on Ray Data: all stages, one after the other."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

    from ..dataset.items import Items
    from ..features.activations import Learner
    from ..find.groups import Groups

NOT_STARTED = (
    "Ray did not start; it gives up after some fifteen seconds on a busy machine: try again when less else runs, "
    "or start it by `ray start --head` and set RAY_ADDRESS=auto"
)
NEEDED = "looking for duplicates on many machines needs Ray; pip install 'imgclean[ray]'"


def AdaptiveConcatPool2d(size: int) -> nn.Module:
    "fastai's, imported where it is called: every worker imports this file, few need fastai."
    from fastai.layers import AdaptiveConcatPool2d as Pool

    return Pool(size)


def find_duplicates_ray(
    source: str
    | os.PathLike,  # folder, tars or parquet of bytes; or a file://, s3:// or gs:// address of them
    out: str | os.PathLike,  # folder for all results, which all machines see
    learn: Learner | nn.Module | None = None,  # what looks; a module needs `tfm`, but for timm's
    *,
    arch: str | None = None,  # model that looks where `learn` is not given
    min_precision: float | None = None,  # second look at each image's nearest; the default, .99
    min_similarity: float | None = None,  # in its place: all pairs of at least this cosine
    exact: bool = False,  # compare every two images, in place of those that share a cluster
    layer: nn.Module | str | Sequence | None = None,  # see `embed`, as for what follows
    pool: Callable[[int], nn.Module] | None = AdaptiveConcatPool2d,
    pool_dim: int = 1,
    tfm: Callable[[Image.Image], torch.Tensor] | None = None,
    precision: str | None = None,
    bs: int = 64,
    max_pixels: int | None = None,
    n_clusters: int | None = None,  # default: √n
    n_assign: int = 3,  # clusters of each image
    max_cluster_size: int | None = None,  # rows that one task compares; larger clusters are split
    num_partitions: int | None = None,  # of the shuffle; default: see `tasks.partitions`
    sample: int | None = None,  # images that the centroids are learnt from; default: 64 for each
    keep: str = "best",  # image of a group that stays (docs/keepers.md)
    protect: Iterable[str] = (),  # ids of images and of folders that stay in any case
    include: str | Iterable[str] = (),  # patterns of names, see `folders.wanted`
    exclude: str | Iterable[str] = (),
    num_gpus: float = 0,  # of each actor that holds the model; 0: a core for each
    concurrency: int | None = None,  # actors that hold the model; default: as the cluster has room for
    seed: int = 0,
    progress: bool = True,
) -> tuple[Items, Groups]:
    """The images and the groups of duplicates among them, found on a Ray cluster, or on this machine's cores.

    Everything is in `out` when this returns: pairs.parquet, groups.parquet, report.json, the embeddings, the images
    that cannot be read. Called again it goes on after the last complete part. An image is known by its id, its name in
    `source`: one that has changed under its name is not looked at again. Raises `ImportError` without Ray, `ValueError`
    where `out` holds something else.
    """
    # Here and below, since every worker imports this file, and takes seconds for what it does not use.
    from ..find.calibrate import check_precision
    from ..find.keepers import check_keep
    from ..find.pairs import check_similarity

    if learn is not None and arch is not None:
        raise ValueError(
            f"arch is {arch!r}, but learn is given, which brings its own model; give one of them"
        )
    if min_precision is not None and min_similarity is not None:
        raise ValueError("min_precision is given with min_similarity, which cuts by cosine; give one of them")
    if min_similarity is not None:
        check_similarity(min_similarity)
    if min_precision is not None:
        check_precision(min_precision)
    check_keep(keep)
    out = Path(out).absolute()
    with running():
        from ..cascade import Watch
        from ..formatter import MIN_PRECISION
        from .clustering import cluster
        from .embedding import embed_source, made_with
        from .looking import Model, look_with
        from .results import read_results, write_results
        from .sources import find_source
        from .stages import alike, images_of, looked_at_again
        from .tables import number_rows

        place, watch = find_source(source, include, exclude), Watch()
        model = Model.of(learn, arch, tfm, layer, pool, pool_dim, max_pixels, bs)
        seen = embed_source(
            place,
            out,
            model,
            precision=precision,
            num_gpus=num_gpus,
            concurrency=concurrency,
            progress=progress,
        )
        watch.lap("embed")
        embeddings, images, clusters = out / "embeddings", images_of(place), None
        numbering = number_rows(embeddings)
        if not exact:
            clusters = cluster(
                numbering, out, n_clusters=n_clusters, n_assign=n_assign, seed=seed, sample=sample,
                max_cluster_size=max_cluster_size,
            )  # fmt: skip
            watch.lap("cluster")
        if min_similarity is None:
            look = look_with(model, made_with(embeddings, model)["precision"], num_gpus)
            found = looked_at_again(
                numbering, out, clusters, images, look, min_precision or MIN_PRECISION, max_cluster_size,
                num_partitions, seed, watch,
            )  # fmt: skip
        else:
            found = alike(numbering, out, clusters, min_similarity, max_cluster_size, num_partitions, watch)
        about = {
            "source": place.given, "kind": place.kind, "seconds": watch.seconds, "embedding": seen._asdict(),
            "join": found.join, "settings": found.settings | made_with(embeddings, model),
            "calibration": found.calibration,
        }  # fmt: skip
        write_results(
            numbering,
            out,
            found.pairs,
            images,
            checks=found.checks,
            keep=keep,
            protect=tuple(protect),
            about=about,
        )
        return read_results(out)


@contextmanager
def running(num_cpus: int | None = None) -> Iterator[None]:
    """Ray, quiet: the one that runs, the one that RAY_ADDRESS names, or one of our own until the block ends, with `num_cpus`.

    Raises `ImportError` where it is not installed, `ConnectionError` where it does not start.
    """
    try:
        import ray.data
    except ImportError:
        raise ImportError(NEEDED) from None
    quiet()
    ours = not ray.is_initialized()
    if ours:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        num_cpus = None if "RAY_ADDRESS" in os.environ else num_cpus  # that one has its own
        try:
            ray.init(
                num_cpus=num_cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
            )
        except Exception as err:  # Ray raises a bare one
            ray.shutdown()
            raise ConnectionError(NOT_STARTED) from err
    try:
        yield
    finally:
        if ours:
            ray.shutdown()


def quiet() -> None:
    "No bars and reports of Ray Data's own: ours counts images."
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
