"""The stages of a run on Ray with a few workers: seconds and bytes, against one process, and what is found of the exact pairs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import psutil

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
    ratio = {
        kind: round(ours["stages"]["embed"][kind] / plain["embed"][kind], 2)
        for kind in ("seconds", "cpu_seconds")
    }
    return {
        "images": len(items), "workers": workers, "min_similarity": min_similarity,
        "load": [round(load[0], 1), round(load_after[0], 1)], "pairs": len(truth),
        "one_process": plain, "ray": ours, "embed_ray_to_one_process": ratio,
    }  # fmt: skip


def _some(items: Items, limit: int, folder: Path) -> Items:
    "`limit` of the images, evenly spaced, as a folder of links."
    items.subset(range(0, len(items), max(1, len(items) // limit))[:limit]).to_folder(folder, link=True)
    return Items.from_folder(folder)


def _one_process(learn, items: Items, min_similarity: float, workers: int) -> tuple[dict, Pairs]:
    "Seconds of what `find` does on this machine, with as many processes as there are workers; and the exact pairs."
    with _clock() as embedding:
        seen = embed(learn, items, num_workers=workers, progress=False)
    with _clock() as comparing:
        pairs = similar_pairs(seen.vectors, min_similarity=min_similarity)
    place = np.argsort(
        np.argsort([seen.items.relpath(k) for k in range(len(seen.items))])
    )  # by name, as on Ray
    pairs = Pairs.of(place[pairs.i], place[pairs.j], pairs.score)
    return {
        "embed": embedding,
        "images_per_second": _rate(items, embedding),
        "compare_exactly": comparing,
    }, pairs


def _rate(items: Items, clock: dict) -> float:
    return round(len(items) / clock["seconds"], 1)


def _on_ray(
    learn, items: Items, out: Path, min_similarity: float, workers: int
) -> tuple[dict, dict[str, Pairs]]:
    "What the stages took, and the pairs that were found, by clusters and exactly."
    clocks: dict[str, dict] = {}

    def timed(name: str, work: Callable):
        with _clock() as clocks[name]:
            return work()

    with peak_memory() as peak, ExitStack() as ours:
        timed("start", lambda: ours.enter_context(running(num_cpus=workers)))
        seen, clusters, ways = _stages(learn, items, out, min_similarity, workers, timed)
    n, embeddings = len(items), out / "embeddings"
    said = {way: json.loads((out / way / "join" / "done.json").read_text()) for way in ways}
    return {
        "stages": clocks,
        "images_per_second": _rate(items, clocks["embed"]),
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


def _stages(learn, items: Items, out: Path, min_similarity: float, workers: int, timed: Callable) -> tuple:
    from ..scaleout.clustering import cluster
    from ..scaleout.embedding import embed_source
    from ..scaleout.images import Images
    from ..scaleout.joining import join_pairs
    from ..scaleout.looking import Model
    from ..scaleout.results import write_results
    from ..scaleout.sources import find_source
    from ..scaleout.tables import number_rows

    embeddings, ways = out / "embeddings", {}
    model = Model.of(learn, None, None, None, AdaptiveConcatPool2d, 1, None, 64)
    source = timed("list", lambda: find_source(items.root))
    seen = timed("embed", lambda: embed_source(source, out, model, concurrency=workers, progress=False))
    numbering = number_rows(embeddings)
    clusters = timed("cluster", lambda: cluster(numbering, out))
    for way in ("clusters", "exact"):
        ways[way] = timed(f"compare_{way}", lambda way=way: join_pairs(
            numbering, out / way, min_similarity=min_similarity, method=way, clusters=clusters
        ))  # fmt: skip
    timed("write", lambda: write_results(numbering, out, ways["clusters"], Images(root=items.root)))
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


@contextmanager
def _clock() -> Iterator[dict]:
    "Seconds of the block, by the wall, and of all cores for this process and those that it started."
    clock: dict = {}
    start, before = perf_counter(), _cpu_seconds()
    yield clock
    clock["seconds"] = round(perf_counter() - start, 2)
    clock["cpu_seconds"] = round(_cpu_seconds() - before, 2)


def _cpu_seconds() -> float:
    "Those of processes that have ended are with the one that waited for them."
    me, total = psutil.Process(), 0.0
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.Error):  # it has just ended
            total += sum(process.cpu_times()[:4])
    return total
