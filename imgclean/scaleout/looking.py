"""A model as it travels to the actors of Ray, and what it sees of bytes. Knows no files and no Ray."""

from __future__ import annotations

import copy
import hashlib
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..dataset.items import Items
from ..features.activations import Eye, looker
from ..features.backbones import PACKAGED, default_learner, evaluating
from ..features.inputs import LearnerInputs, Looked, ModuleInputs
from ..features.precision import memory_kept, threads
from ..formatter import arch_name
from .sources import Raw

if TYPE_CHECKING:
    from ..features.activations import Learner

NOISE = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)


class Model(NamedTuple):
    "What looks at images, as it travels to the actors"

    model: nn.Module
    inputs: LearnerInputs | ModuleInputs
    layer: Any
    pooling: nn.Module
    max_pixels: int | None
    bs: int
    settings: dict  # what a report says of it

    @classmethod
    def of(
        cls, learn, arch: str | None, tfm, layer, pool, pool_dim: int, max_pixels: int | None, bs: int
    ) -> Model:
        "A copy on the CPU of what `embed` is given; for `learn` None a ready Learner of `arch`."
        learn = ready_learner(arch or PACKAGED) if learn is None else learn
        model, inputs, _ = looker(learn, tfm)
        if not inputs.mode:
            raise ValueError(
                "the Learner opens files in a way of its own, which bytes from a source cannot go; "
                "build its DataLoaders with an ImageBlock"
            )
        pooling = pool(pool_dim) if pool else nn.Identity()
        model = copy.deepcopy(model).cpu()
        settings = {
            "arch": arch_name(learn),
            "pool": getattr(pool, "__name__", str(pool)) if pool else None,
            "pool_dim": pool_dim if pool else None,
        }
        return cls(model, _moved(inputs, torch.device("cpu")), layer, pooling, max_pixels, bs, settings)

    def eye(self, device: torch.device, images: Iterable[io.BytesIO] = ()) -> Eye:
        "The model, hooked and folded on `device`; `images` are some to try precisions on."
        inputs = _moved(self.inputs, device)
        probe, looked = made_up(inputs)[None], Looked(inputs, list(images), self.max_pixels)
        return Eye(self.model.to(device), looked, probe, self.layer, self.pooling, device, self.bs, 1)


def ready_learner(arch: str) -> Learner:
    "A `default_learner` that knows none of the images: they may lie in a bucket."
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "made-up.png")
        Image.fromarray(NOISE).save(path)
        return default_learner(Items.from_paths([path]), arch)


def made_up(inputs: LearnerInputs | ModuleInputs) -> torch.Tensor:  # (c, h, w)
    "A picture made on the spot as the model sees it."
    return inputs.tensor(Image.fromarray(NOISE).convert(inputs.mode))


def _moved(inputs: LearnerInputs | ModuleInputs, device: torch.device) -> LearnerInputs | ModuleInputs:
    "The same transforms with their tensors, such as a mean to subtract, on `device`."
    inputs = copy.deepcopy(inputs)
    for tfm in getattr(getattr(inputs, "after_batch", None), "fs", ()):
        for name, value in vars(tfm).items():
            if isinstance(value, torch.Tensor):
                setattr(tfm, name, value.to(device))
    return inputs


@contextmanager
def looking(model: Model, num_gpus: float, images: Iterable[io.BytesIO] = ()) -> Iterator[Eye]:
    "An eye on this machine's GPU where one is wanted, else on one core of its CPU."
    device = torch.device("cuda" if num_gpus and torch.cuda.is_available() else "cpu")
    with (
        evaluating(model.model),
        torch.no_grad(),
        memory_kept(device),
        threads(1),
        closing(model.eye(device, images)) as eye,
    ):
        yield eye


class Batch(NamedTuple):
    "Images as the model sees them"

    ids: list[str]  # of all that were read
    digests: list[bytes]  # of their bytes
    errors: list[str]  # "" for those that can be seen
    values: Any  # of those: tensor (n, c, h, w); once seen an array (n, d) float32; None: there are none


def decoded(looked: Looked, raws: list[Raw]) -> Batch:
    "The images after the item transforms."
    opened = Looked(looked.inputs, [Named(raw) for raw in raws], looked.max_pixels)
    samples = [(k, None, raw.error) if raw.error else opened[k] for k, raw in enumerate(raws)]
    _, xb, errors, _ = opened.collate(samples)
    digests = [hashlib.blake2b(raw.data or b"", digest_size=16).digest() for raw in raws]
    return Batch([raw.id for raw in raws], digests, [errors.get(k, "") for k in range(len(raws))], xb)


class Named(io.BytesIO):
    "Bytes that know what their file is called, for what is said of formats that need a plugin"

    def __init__(self, raw: Raw):
        super().__init__(raw.data or b"")
        self.name = raw.id


def seen(eye: Eye, batch: Batch) -> Batch:
    "The batch with vectors in place of images."
    return batch if batch.values is None else batch._replace(values=eye.see(batch.values))


def look_with(model: Model, precision: str, num_gpus: float) -> Callable[[Items], tuple[np.ndarray, Items]]:
    "A function that embeds files on this machine, and says which of them it could read."

    def look(items: Items) -> tuple[np.ndarray, Items]:
        raws = [Raw(str(k), path.read_bytes()) for k, path in enumerate(items.paths)]
        with looking(model, num_gpus) as eye:
            eye.open(precision, 0)
            batches = [
                seen(eye, decoded(eye.looked, raws[k : k + model.bs])) for k in range(0, len(raws), model.bs)
            ]
        errors = {
            int(one): error
            for batch in batches
            for one, error in zip(batch.ids, batch.errors, strict=True)
            if error
        }
        vectors = [batch.values for batch in batches if batch.values is not None]
        return np.concatenate(vectors) if vectors else np.empty((0, 0), np.float32), items.without(errors)

    return look
