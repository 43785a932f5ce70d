"""How fast images become vectors: against what forward pass and decoding allow, a second time, and against a peer."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated

import torch
import typer
from fastai.layers import AdaptiveConcatPool2d
from fastai.vision.all import Learner

from ..dataset.items import Items
from ..features.activations import embed
from ..features.backbones import default_learner, evaluating
from ..features.inputs import LearnerInputs, Looked
from ..features.precision import CHUNK, Plans, memory_kept
from .common import median_of, peak_memory, print_json
from .peers import check_installed, same_network


def features(
    folder: Annotated[Path, typer.Argument(help="Images.")],
    arch: Annotated[str, typer.Option(help="Model that looks.")] = "tf_efficientnet_lite0",
    pool_dim: Annotated[int, typer.Option(help="Side of the pooled map.")] = 1,
    size: Annotated[int, typer.Option(help="Pixels a side that the model sees.")] = 224,
    precision: Annotated[str | None, typer.Option(help="As embed's; default: the fastest here.")] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float16.")] = "float32",
    repeats: Annotated[int, typer.Option(help="Runs of each kind; medians are printed.")] = 3,
    peer: Annotated[
        bool, typer.Option(help="Also imagededup's CNN with the same model, if installed.")
    ] = False,
) -> None:
    "Images a second of a whole pass into a fresh cache, its share of what is possible, and of a second pass."
    if peer:
        check_installed("imagededup", option="--peer")
    items = Items.from_folder(folder)
    learn = default_learner(items, arch, size=size)
    cold, warm, bare, peaks, theirs = [], [], [], [], {0: [], os.cpu_count() or 1: []}
    with tempfile.TemporaryDirectory() as caches:
        for run in range(repeats):  # in turns, so that a busy moment of the machine meets both
            look = partial(embed, learn, items, pool_dim=pool_dim, precision=precision, dtype=dtype)
            look = partial(look, cache=Path(caches, str(run)))
            with peak_memory() as peak_mb:
                seconds, seen = _timed(look)
            peaks.append(peak_mb())
            cold.append(seconds)
            del seen  # the second pass must not find the first one's memory
            seconds, seen = _timed(look)
            warm.append(seconds)
            chosen, d = seen.precision, seen.vectors.shape[1]
            for workers, times in theirs.items() if peer else ():
                cnn = same_network(learn, size)
                encode = partial(cnn.encode_images, folder, recursive=True, num_enc_workers=workers)
                times.append(_timed(encode)[0])
            bare.append(_bare(learn, items, chosen, pool_dim))
    n, mid = len(items), lambda times: sorted(times)[len(times) // 2]
    forward, decode = map(mid, zip(*bare, strict=True))
    decode_all = decode / (os.cpu_count() or 1)
    on_cpu = torch.device(learn.dls.device or "cpu").type == "cpu"  # a GPU leaves the cores to decoding
    limit = 1 / (forward + decode_all if on_cpu else max(forward, decode_all))
    result = {
        "images": n,
        "arch": arch,
        "size": size,
        "d": d,
        "dtype": dtype,
        "precision": chosen,
        "forward_ms": round(forward * 1000, 2),
        "decode_ms": round(decode * 1000, 2),
        "limit_images_per_s": round(limit, 1),
        "images_per_s": round(n / mid(cold), 1),
        "share_of_limit": round(n / mid(cold) / limit, 3),
        "warm_to_cold": round(mid(warm) / mid(cold), 4),
        "peak_memory_above_model_mb": round(peaks[0]),  # before a peer has left memory of its own behind
    }
    if peer:
        rates = {f"imagededup_{w}_workers_images_per_s": round(n / mid(t), 1) for w, t in theirs.items()}
        result |= rates | {"times_imagededup": round(n / mid(cold) / max(rates.values()), 2)}
    print_json(result)


def _timed(work) -> tuple[float, object]:
    start = perf_counter()
    result = work()
    return perf_counter() - start, result


def _bare(
    learn: Learner, items: Items, precision: str, pool_dim: int
) -> tuple[float, float]:  # seconds an image
    "Forward pass alone in `precision`, and decoding with the Learner's item transforms in one process."
    inputs = LearnerInputs(learn)
    looked = Looked(inputs, items.paths)
    some = range(0, len(items), max(1, len(items) // 200))
    start = perf_counter()
    xs = [x for k in some for x in [looked[k][1]] if x is not None]
    decode = (perf_counter() - start) / len(some)
    device = torch.device(learn.dls.device or "cpu")
    bs = CHUNK if device.type == "cpu" else 64
    xb = inputs.batch(torch.stack((xs * bs)[:bs]).to(device)).as_subclass(torch.Tensor)
    xb = xb.contiguous(memory_format=torch.channels_last)
    with evaluating(learn.model), torch.no_grad(), memory_kept(device):
        network = Plans(learn.model, ["0"], AdaptiveConcatPool2d(pool_dim), device, xb).network(precision)
        network(xb)
        return median_of(lambda: network(xb).cpu(), 30) / bs, decode
