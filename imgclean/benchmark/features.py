"""How fast images become vectors, against what forward pass and decoding allow."""

from __future__ import annotations

import os
import resource
import tempfile
from copy import deepcopy
from pathlib import Path
from time import perf_counter
from typing import Annotated

import torch
import typer

from ..dataset.items import Items
from ..features.activations import _Looked, embed
from ..features.backbones import default_learner, evaluating
from .common import median_of, print_json


def features(
    folder: Annotated[Path, typer.Argument(help="Images.")],
    arch: Annotated[str, typer.Option(help="Model that looks.")] = "tf_efficientnet_lite0",
    repeats: Annotated[int, typer.Option(help="Runs of each kind; medians are printed.")] = 3,
) -> None:
    "Images a second of a whole pass, its share of what forward pass and decoding allow, and of a second pass."
    items = Items.from_folder(folder)
    learn = default_learner(items, arch)
    forward, decode = _bare(learn, items)
    limit = 1 / (forward + decode / (os.cpu_count() or 1))
    n = len(items)
    cold = median_of(lambda: embed(learn, items), repeats)
    with tempfile.TemporaryDirectory() as cache:
        first = median_of(lambda: embed(learn, items, cache=cache), 1)
        warm = median_of(lambda: embed(learn, items, cache=cache), repeats)
    result = {
        "images": n,
        "arch": arch,
        "forward_ms": round(forward * 1000, 2),
        "decode_ms": round(decode * 1000, 2),
        "limit_images_per_s": round(limit, 1),
        "images_per_s": round(n / cold, 1),
        "share_of_limit": round(n / cold / limit, 3),
        "images_per_s_filling_the_cache": round(n / first, 1),
        "warm_to_cold": round(warm / cold, 4),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print_json(result)


def _bare(learn, items: Items) -> tuple[float, float]:  # seconds an image
    "Forward pass of full batches as fast as fp32 goes, and decoding with the Learner's item transforms in one process."
    looked = _Looked(learn, items.paths)
    device = next(learn.model.parameters()).device
    some = range(0, len(items), max(1, len(items) // 200))
    start = perf_counter()
    xs = [x for k in some for x in [looked[k][1]] if x is not None]
    decode = (perf_counter() - start) / len(some)
    xb = looked.to_batch(torch.stack((xs * 64)[:64]), device).contiguous(memory_format=torch.channels_last)
    model = deepcopy(learn.model).to(memory_format=torch.channels_last)
    with evaluating(model), torch.no_grad():
        model(xb)
        return median_of(lambda: model(xb), 5) / len(xb), decode
