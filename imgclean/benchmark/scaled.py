"""The stages of a run on Ray with a few workers: seconds and bytes, against one process, and what is found of the exact pairs."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil

from ..cascade import Watch
from ..dataset.items import Items
from ..features.activations import AdaptiveConcatPool2d, embed
from ..features.backbones import default_learner
from ..find.pairs import Pairs
from ..find.similarity import similar_pairs
from ..scaleout import running
from .common import peak_memory


def measured(folder: Path, workers: int, min_similarity: float, limit: int | None) -> dict:
    "What the images of `folder`, or the first `limit` of them, take on Ray and in one process."
    items = Items.from_folder(folder)
    load = psutil.getloadavg()
    with TemporaryDirectory() as work:
        if limit:
            items = _some(items, limit, Path(work, "images"))
        learn = default_learner(items)
        ours, ways = _on_ray(learn, items, Path(work, "out"), min_similarity, workers)
        plain, truth = _one_process(learn, items, min_similarity, workers)
    for way, pairs in ways.items():
        ours["found"][way] |= _against(pairs, truth)
    load_after = psutil.getloadavg()
    return {
        "images": len(items), "workers": workers, "min_similarity": min_similarity,
        "load": [round(load[0], 1), round(load_after[0], 1)], "pairs": len(truth),
        "one_process": plain, "ray": ours,
        "embed_ray_to_one_process": round(ours["stages"]["embed"] / plain["embed"], 2),
    }  # fmt: skip


def _some(items: Items, limit: int, folder: Path) -> Items:
    "`limit` of the images, evenly spaced, as a folder of links."
    items.subset(range(0, len(items), max(1, len(items) // limit))[:limit]).to_folder(folder, link=True)
    return Items.from_folder(folder)


def _one_process(learn, items: Items, min_similarity: float, workers: int) -> tuple[dict, Pairs]:
    "Seconds of what `find` does on this machine, with as many processes as there are workers; and the exact pairs."
    watch = Watch()
    seen = embed(learn, items, num_workers=workers, progress=False)
    watch.lap("embed")
    pairs = similar_pairs(seen.vectors, min_similarity=min_similarity)
    watch.lap("compare_exactly")
    place = np.argsort(
        np.argsort([seen.items.relpath(k) for k in range(len(seen.items))])
    )  # by name, as on Ray
    pairs = Pairs.of(place[pairs.i], place[pairs.j], pairs.score)
    seconds = watch.seconds
    return _rounded(seconds) | {"images_per_second": round(len(items) / seconds["embed"], 1)}, pairs


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in seconds.items()}


def _on_ray(
    learn, items: Items, out: Path, min_similarity: float, workers: int
) -> tuple[dict, dict[str, Pairs]]:
    "What the stages took, and the pairs that were found, by clusters and exactly."
    watch = Watch()
    with peak_memory() as peak, running(num_cpus=workers):
        watch.lap("start")
        seen, clusters, ways = _stages(learn, items, out, min_similarity, workers, watch)
    n, embeddings = len(items), out / "embeddings"
    said = {way: json.loads((out / way / "join" / "done.json").read_text()) for way in ways}
    return {
        "stages": _rounded(watch.seconds),
        "images_per_second": round(n / watch.seconds["embed"], 1),
        "work_of_actors": {name: round(value, 1) for name, value in seen.work.items()},
        "bytes_an_image": {
            "read": round(seen.bytes / n),
            "embeddings": round(_size(embeddings) / n),
            "shuffled": round(said["clusters"]["shuffled_bytes"] / n),
        },
        "clusters": {"n": len(clusters.sizes), "largest": int(clusters.sizes.max())},
        "found": {way: {"tasks": said[way]["tasks"]} for way in ways},
        "peak_mb_of_all_processes": round(peak()),
    }, ways


def _stages(learn, items: Items, out: Path, min_similarity: float, workers: int, watch: Watch) -> tuple:
    from ..scaleout.clustering import cluster
    from ..scaleout.embedding import embed_source
    from ..scaleout.images import Images
    from ..scaleout.joining import join_pairs
    from ..scaleout.looking import Model
    from ..scaleout.results import write_results
    from ..scaleout.sources import find_source
    from ..scaleout.tables import number_rows

    model, ways = Model.of(learn, None, None, None, AdaptiveConcatPool2d, 1, None, 64), {}
    source = find_source(items.root)
    watch.lap("list")
    seen = embed_source(source, out, model, concurrency=workers, progress=False)
    watch.lap("embed")
    numbering = number_rows(out / "embeddings")
    clusters = cluster(numbering, out)
    watch.lap("cluster")
    for way in ("clusters", "exact"):
        ask = dict(min_similarity=min_similarity, method=way, clusters=clusters)
        ways[way] = join_pairs(numbering, out / way, **ask)
        watch.lap(f"compare_{way}")
    write_results(numbering, out, ways["clusters"], Images(root=items.root))
    watch.lap("write")
    return seen, clusters, ways


def _against(found: Pairs, truth: Pairs) -> dict:
    ours, true = (set(zip(p.i.tolist(), p.j.tolist(), strict=True)) for p in (found, truth))
    both = len(ours & true)
    return {
        "pairs": len(ours),
        "recall": both / len(true) if true else None,  # there is nothing to find
        "precision": both / len(ours) if ours else None,
    }


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("part-*.parquet"))
