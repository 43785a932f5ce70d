"""From vectors to pairs on many machines: those that are alike, or those that show the same picture at a second look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..cascade import UNCALIBRATED, Watch
from ..dataset.stored import read_json
from ..find.pairs import Pairs
from .calibrating import Look, learn_cut
from .candidates import EXACT, find_candidates
from .clustering import Clusters
from .images import Images
from .joining import join_pairs
from .sources import IMAGES, TARS, Raw, Source, fetch, tar_of
from .tables import DONE, Numbering
from .verifying import verify, with_linked

LOWEST = (
    -1.0
)  # cosine of pairs that have a second look: as on one machine, each image's nearest have it, however far


class Found(NamedTuple):
    "Pairs of row numbers, and what is to be said of them"

    pairs: Pairs
    checks: pa.Table | None  # of each pair, where they had a second look
    settings: dict
    join: dict  # what the join says of itself
    calibration: dict | None = None  # of `learn_cut`


def images_of(source: Source) -> Images:
    "Where the files of a source's images are."
    if source.kind == IMAGES and "://" not in source.uri:
        return Images(root=Path(source.uri))
    if source.kind == IMAGES:
        return Images(fetch=partial(fetch, replace(source, names=())))  # its names are the ids
    return Images(
        fetch=partial(fetch, source), shards=source.names, fetch_from=partial(_of_shard, source),
        shard_of=tar_of if source.kind == TARS else _unknown,
    )  # fmt: skip


def _of_shard(source: Source, name: str, ids: list[str]) -> Iterator[Raw]:
    return fetch(replace(source, names=(name,)), ids)


def _unknown(_: str) -> None:
    "A table's ids may be texts of its own."


def alike(
    numbering: Numbering,
    out: Path,
    clusters: Clusters | None,  # None: every two rows are compared
    min_similarity: float,
    max_cluster_size: int | None,
    num_partitions: int | None,
    watch: Watch,
) -> Found:
    "Pairs of at least `min_similarity`."
    method = _method(clusters)
    pairs = join_pairs(
        numbering, out, min_similarity=min_similarity, method=method, clusters=clusters,
        max_cluster_size=max_cluster_size, num_partitions=num_partitions,
    )  # fmt: skip
    watch.lap("compare")
    settings = {"score": "cosine", "min_similarity": min_similarity, "method": method}
    return Found(pairs, None, settings, read_json(out / "join" / DONE))


def _method(clusters: Clusters | None) -> str:
    return "exact" if clusters is None else "clusters"


def looked_at_again(
    numbering: Numbering,
    out: Path,
    clusters: Clusters | None,  # None: every two rows are compared
    images: Images,
    look: Look,  # embeds images as those were that have a vector
    min_precision: float,
    max_cluster_size: int | None,
    num_partitions: int | None,
    seed: int,
    watch: Watch,
) -> Found:
    "Pairs of equal files and of each image's nearest whose probability to show one picture reaches the cut."
    method = _method(clusters)
    pairs, stages, join = find_candidates(
        numbering, out, method=method, clusters=clusters, min_similarity=LOWEST, seed=seed,
        max_cluster_size=max_cluster_size, num_partitions=num_partitions,
    )  # fmt: skip
    watch.lap("compare")
    checks = verify(numbering, out, pairs, images)
    pairs, stages, checks = with_linked(numbering, out, pairs, stages, checks, images)
    watch.lap("check")
    same = [numbering.digests.take(pa.array(ks)) for ks in (pairs.i, pairs.j)]
    stages = np.where(pc.equal(*same).to_numpy(zero_copy_only=False), EXACT, stages)
    probability = checks["probability"].to_numpy().astype(np.float32)
    order = np.lexsort((pairs.j, pairs.i, -probability))
    ranked = Pairs(pairs.i[order], pairs.j[order], probability[order], pairs.left_out)
    learnt = learn_cut(numbering, out, ranked, images, look, min_precision=min_precision, seed=seed)
    watch.lap("calibrate")
    cut = min(learnt["cut"], 1.0) if learnt else UNCALIBRATED  # equal files are equal, whatever was learnt
    above = ranked.above(cut)
    checks = checks.append_column("stage", pa.array(stages)).take(pa.array(order[: len(above)]))
    settings = {
        "score": "probability", "min_precision": min_precision, "cut": cut, "calibrated": bool(learnt),
        "method": method,
    }  # fmt: skip
    return Found(above, checks, settings, join | {"candidates": len(pairs)}, learnt)
