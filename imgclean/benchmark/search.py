"""How fast pairs are found, how much of the machine that uses, and whether any is missed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Annotated

import numpy as np
import psutil
import torch
import typer

from ..find import filters
from ..find.best import Best
from ..find.join import Join
from ..find.similarity import MAX_PAIRS
from ..find.tiles import Rows
from .common import print_json

CLUSTERS, RANK, DECAY, SHARED, NOISE, MIX = 500, 256, 0.5, 0.3, 0.25, 0.4  # of the vectors, see `synthetic`
PLANTED = 0.02  # share of the rows that are near duplicates of another
BLOCK = 1024
SIZES = [20_000]
PREFILTERS = ["none", "pca", "auto"]


def search(
    n: Annotated[list[int], typer.Option(help="Rows; repeat it for a cost curve.")] = SIZES,
    d: Annotated[int, typer.Option(help="Numbers a row.")] = 1280,
    min_similarity: Annotated[float, typer.Option(help="Pairs with at least this cosine.")] = 0.9,
    prefilter: Annotated[list[str], typer.Option(help="Filters to measure; repeat it.")] = PREFILTERS,
    dtype: Annotated[str, typer.Option(help="float32 or float16.")] = "float32",
    folder: Annotated[Path | None, typer.Option(help="Keep the vectors in a file there, mapped.")] = None,
    reference: Annotated[
        bool, typer.Option(help="Also all products by torch.mm, which is the truth.")
    ] = True,
    sample: Annotated[
        int, typer.Option(help="Without --reference: rows whose pairs are all known, by torch.mm; 0: none.")
    ] = 0,
    faiss_n: Annotated[int, typer.Option(help="Rows for faiss IndexFlatIP.range_search; 0: none.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="Draw the cost curve into this file.")] = None,
) -> None:
    "Seconds of CPU, recall and memory of exact search on vectors like a network's, against torch.mm."
    rows = []
    for size in n:
        x = synthetic(size, d, dtype, folder)
        rows.append(measure(x, min_similarity, prefilter, reference, sample))
    result = {"d": d, "min_similarity": min_similarity, "dtype": dtype, "mapped": bool(folder), "rows": rows}
    if len(n) > 1:
        result["cost_curve"] = cost_curves(rows, plot)
    if faiss_n:
        result["faiss"] = faiss_range_search(synthetic(faiss_n, d), min_similarity)
    print_json(result)


def synthetic(
    n: int, d: int, dtype: str = "float32", folder: Path | None = None, seed: int = 0
) -> np.ndarray:  # (n, d) unit rows, a memmap where a folder is given
    """Vectors as a network has after its last ReLU: clusters, a spectrum that decays, one common direction.

    Of the rows, 2 % are another one turned by a random angle with a cosine of .88 to 1: half of them
    towards noise, half towards a third row.
    """
    rng = np.random.default_rng(seed)
    spectrum = np.arange(1, RANK + 1) ** -DECAY
    mixing = rng.normal(size=(RANK, d)) * (spectrum / np.linalg.norm(spectrum))[:, None]
    mixing, shared = mixing.astype(np.float32), SHARED * rng.normal(size=d)
    centres = rng.normal(size=(CLUSTERS, RANK))
    x = (
        np.empty((n, d), dtype)
        if folder is None
        else np.memmap(folder / "vectors", dtype, "w+", shape=(n, d))
    )
    for a in range(0, n, 8192):
        m = min(8192, n - a)
        code = MIX**0.5 * centres[rng.integers(0, CLUSTERS, m)] + (1 - MIX) ** 0.5 * rng.normal(
            size=(m, RANK)
        )
        x[a : a + m] = unit(
            np.maximum(code.astype(np.float32) @ mixing + NOISE * rng.normal(size=(m, d)) + shared, 0)
        )
    source, target, third = np.split(rng.permutation(n)[: 3 * int(n * PLANTED)], 3)
    for k in range(0, len(source), 1024):
        turn(x, source[k : k + 1024], target[k : k + 1024], third[k : k + 1024], rng)
    return x


def turn(x: np.ndarray, source: np.ndarray, target: np.ndarray, third: np.ndarray, rng) -> None:
    "Rows `source` of `x`, turned, become the rows `target`."
    from_, cos = x[source].astype(np.float32), rng.uniform(0.88, 1, (len(source), 1))
    towards = rng.normal(size=from_.shape)
    towards[::2] = x[third[::2]]
    towards = unit(towards - (towards * from_).sum(1, keepdims=True) * from_)
    x[target] = cos * from_ + np.sqrt(1 - cos**2) * towards


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def measure(x: np.ndarray, least: float, prefilters: list[str], reference: bool, sample: int = 0) -> dict:
    "Every way to find the pairs of `x`, and the reference with which they are compared."
    n = len(x)
    row = {"n": n, "ways": {}}
    truth = known = None
    if reference:
        truth, row["torch_mm"] = all_products(x, least)
    elif sample:
        known = np.sort(np.random.default_rng(1).choice(n, min(n, sample), replace=False))
        truth = products_of(x, known, least)
    for name in prefilters:
        row["ways"][name] = way(x, least, name, truth, row.get("torch_mm"), known)
    return row


def way(
    x: np.ndarray,
    least: float,
    name: str,
    truth: set | None,
    mm: dict | None,
    known: np.ndarray | None = None,
) -> dict:
    n, d = x.shape
    used, before = {}, peak(d, torch.float32)

    def work() -> None:
        start = process_time()
        rows = Rows(x, "cuda" if torch.cuda.is_available() else "cpu")
        join, keep = Join(rows, prefilter=name), Best(n, MAX_PAIRS * n, least, forest=True)
        join.run(keep, progress=True)
        used.update(join=join, pairs=keep.pairs(), seconds=process_time() - start)

    memory = extra_memory(work)
    join, seconds = used["join"], used["seconds"]
    prepared = preparation(join, least, name)
    kind = torch.float32 if join.filter is None else join.filter.dtype
    after = peak(d, kind)
    most = (before + after) / 2 if kind == torch.float32 else after  # other work changes the clock
    columns = d if join.filter is None or join.filter.axes is None else join.filter.axes.shape[1] + 1
    gflops = n * n * columns / (seconds - prepared) / 1e9
    found = {
        "filter": join.name,
        "cpu_seconds": round(seconds, 2),
        "of_it_prepared": round(prepared, 2),
        "pairs": len(used["pairs"]),
        "tiles": join.stats,
        "extra_mb": round(memory / 1e6),
        "gflops": round(gflops, 1),
        "peak_gflops": round(most, 1),
        "share_of_peak": round(gflops / most, 3),
    }
    if truth is not None:
        i, j = used["pairs"].i, used["pairs"].j
        of_known = slice(None) if known is None else np.isin(i, known) | np.isin(j, known)
        ours = set(zip(i[of_known].tolist(), j[of_known].tolist(), strict=True))
        found |= {
            "recall": len(ours & truth) / max(1, len(truth)),
            "wrong": len(ours - truth),
            "true": len(truth),
        }
    if mm is not None:
        found |= {
            "times_faster": round(mm["cpu_seconds"] / seconds, 2),
            "times_faster_than_products_alone": round(mm["products_alone"] / seconds, 2),
        }
    return found


def preparation(join: Join, least: float, name: str) -> float:  # CPU seconds
    "What comes before the tiles, done once more by itself: norms, the choice of a filter, the sketch."
    start = process_time()
    rows = Rows(join.left.emb, join.left.device)
    if name == "auto":
        filters.choose(rows, None, least, join.block, filters.Costs.measure(rows, join.block))
    elif name.startswith("pca"):
        filters.make(name, rows)
    if join.filter:
        join.filter.sketch(rows)
    return process_time() - start


def all_products(x: np.ndarray, least: float) -> tuple[set, dict]:
    "The pairs by `torch.mm` of every tile of the lower triangle in float32, with nothing clever about it."
    start, alone, pairs = process_time(), 0.0, set()
    unit_rows = torch.nn.functional.normalize(torch.from_numpy(np.asarray(x, dtype=np.float32)))
    out = torch.empty(BLOCK, BLOCK)
    for a in range(0, len(x), BLOCK):
        for b in range(0, a + 1, BLOCK):
            left, right = unit_rows[a : a + BLOCK], unit_rows[b : b + BLOCK]
            tile, before = out[: len(left), : len(right)], process_time()
            if tile.is_contiguous():
                torch.mm(left, right.T, out=tile)
            else:
                tile = left @ right.T
            alone += process_time() - before
            rows = (tile.amax(1) >= least).nonzero()[:, 0]
            r, c = (tile[rows] >= least).nonzero(as_tuple=True)
            i, j = rows[r] + a, c + b
            pairs |= set(zip(i[i > j].tolist(), j[i > j].tolist(), strict=True))
    seconds = process_time() - start
    return pairs, {"cpu_seconds": round(seconds, 2), "products_alone": round(alone, 2), "pairs": len(pairs)}


def products_of(x: np.ndarray, known: np.ndarray, least: float) -> set:
    "The pairs of the rows `known` with any row, by `torch.mm` in float32."
    unit_rows, pairs = unit(x[known].astype(np.float32)), set()
    for b in range(0, len(x), 8 * BLOCK):
        others = unit(np.asarray(x[b : b + 8 * BLOCK], dtype=np.float32))
        r, c = (torch.from_numpy(unit_rows) @ torch.from_numpy(others).T >= least).nonzero(as_tuple=True)
        i, j = known[r.numpy()], c.numpy() + b
        pairs |= {(max(a, o), min(a, o)) for a, o in zip(i.tolist(), j.tolist(), strict=True) if a != o}
    return pairs


def peak(d: int, dtype: torch.dtype) -> float:
    "The best that this machine does in torch.mm, over sizes of blocks, in 10^9 operations a second."
    speeds = []
    for block, columns in ((1024, 256), (1024, d), (2048, 256)):
        x = torch.randn(block, columns).to(dtype)
        out = torch.empty(block, block, dtype=dtype)
        times = []
        for _ in range(4):
            start = process_time()
            torch.mm(x, x.T, out=out)
            times.append(process_time() - start)
        speeds.append(2 * block * block * columns / min(times) / 1e9)
    return round(max(speeds), 1)


def extra_memory(work: Callable[[], None]) -> int:  # bytes
    "By how much anonymous memory grew at most; pages of mapped files are not counted."
    done, most, process = threading.Event(), [0], psutil.Process()

    def now() -> int:
        info = process.memory_info()
        return info.rss - getattr(info, "shared", 0)

    def watch() -> None:
        while not done.wait(0.02):
            most[0] = max(most[0], now())

    before = now()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return max(0, most[0] - before)


def cost_curves(rows: list[dict], plot: Path | None) -> dict:
    "For each way the exponent e of seconds = c * n ** e, fitted to all sizes; drawn where `plot` is given."
    sizes = [row["n"] for row in rows]
    curves = {name: [row["ways"][name]["cpu_seconds"] for row in rows] for name in rows[0]["ways"]}
    if "torch_mm" in rows[0]:
        curves["torch.mm"] = [row["torch_mm"]["cpu_seconds"] for row in rows]
    exponents = {
        name: round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 2)
        for name, seconds in curves.items()
    }
    if plot:
        draw(sizes, curves, exponents, plot)
    return {"exponents": exponents, "cpu_seconds": curves, "n": sizes}


def draw(sizes: list[int], curves: dict, exponents: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, seconds in curves.items():
        ax.loglog(sizes, seconds, "o-", label=f"{name}: n^{exponents[name]:.2f}")
    ax.set(xlabel="rows", ylabel="CPU seconds, one thread", title="Exact search for all similar pairs")
    ax.set_xticks(sizes, [f"{size // 1000}k" for size in sizes], minor=False)
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    ax.legend()
    fig.savefig(path, dpi=120)


def faiss_range_search(x: np.ndarray, least: float) -> dict:
    "CPU seconds of faiss for the same pairs, and for other sizes by n**2."
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    start = process_time()
    index = faiss.IndexFlatIP(x.shape[1])
    index.add(x)
    index.range_search(x, least)
    seconds = process_time() - start
    return {"n": len(x), "cpu_seconds": round(seconds, 2), "seconds_per_n2": seconds / len(x) ** 2}
