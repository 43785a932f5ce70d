"""One pass of a Learner over images: hook a layer, pool each batch, keep one vector an image. Searches nothing."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Collection, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import torch
from fastai.callback.hook import hook_output
from fastai.layers import AdaptiveConcatPool2d
from fastai.vision.all import Learner, Pipeline
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm.auto import tqdm

from ..dataset.images import UnreadableImage, open_image
from ..dataset.items import Items, image_tfms, source_stage
from .backbones import evaluating, find_layer
from .cache import Cache, fingerprint_of


class Embeddings(NamedTuple):
    "What a pass over images hands on; row k belongs to the k-th readable image"

    vectors: np.ndarray  # (n, d) float32
    items: Items  # the n readable images; the others are in `items.unreadable`
    layer: str  # dotted name of the hooked layer
    fingerprint: bytes | None = (
        None  # what the vectors depend on but for the images; None: that cannot be told
    )


def embed(
    learn: Learner,
    items: Items,
    layer: nn.Module | str | Sequence[int] | None = None,  # see `find_layer`
    pool: Callable[[int], nn.Module]
    | None = AdaptiveConcatPool2d,  # None: flatten the layer's output as it is
    pool_dim: int = 1,  # side of the pooled map; the article's is 4
    *,
    bs: int = 64,  # images in a batch
    num_workers: int | None = None,  # processes that decode; None: as many as cores, where that is safe
    progress: bool = True,  # a bar on stderr or in the notebook; never where stderr is no terminal
    cache: bool | str | os.PathLike = False,  # True: keep vectors in the user's cache folder; or a folder
) -> Embeddings:
    """One float32 vector for each readable image: the hooked layer's output, pooled batch by batch, flattened.

    The images go through the Learner's own transforms for validation. Hook and train/eval mode are undone.
    Memory is n·d numbers and one batch. With `cache`, what was looked at before by the same model, layer, pooling
    and transforms is not looked at again. Raises `ValueError` for a layer that does not exist.
    """
    if not len(items):
        raise ValueError("there are no images to look at; give a folder or a Learner that holds some")
    looked = _Looked(learn, items.paths)
    with evaluating(learn.model), torch.no_grad():
        probe, errors = looked.first()
        if probe is None:
            return Embeddings(np.empty((0, 0), dtype=np.float32), items.without(errors), "")
        eye = _Eye(learn, looked, probe, layer, pool(pool_dim) if pool else nn.Identity())
        vectors = np.empty((len(items), eye.d), dtype=np.float32)
        store = Cache(None if cache is True else cache) if cache and eye.fingerprint else None
        digests = store.digests(items.paths) if store else range(len(items))
        wanted = _first_of_each(digests)  # digest -> the first item that has it
        if store:
            for digest, vector in store.get(eye.fingerprint, wanted, eye.d):
                vectors[wanted.pop(digest)] = vector
        todo = sorted([*wanted.values(), *(k for k, digest in enumerate(digests) if digest is None)])
        batch = min(bs, len(items))
        loader = DataLoader(
            Subset(looked, todo),
            batch,
            num_workers=_workers(num_workers, len(todo)),
            collate_fn=looked.collate,
        )
        bar = tqdm(total=len(items), initial=len(items) - len(todo), desc="looking", unit="img",
                   disable=None if progress else True)  # fmt: skip
        with bar:
            for ks, xb, failed, size in loader:
                errors.update(failed)
                if ks:
                    vectors[ks] = eye.see(looked.to_batch(xb, eye.device), batch)
                    if store:
                        kept = [k for k in ks if digests[k]]
                        store.put(eye.fingerprint, [digests[k] for k in kept], vectors[kept])
                bar.update(size)
    first = _first_of_each(digests)
    for k, digest in enumerate(digests):
        if digest is not None and first[digest] != k:
            vectors[k] = vectors[first[digest]]
            if first[digest] in errors:
                errors[k] = errors[first[digest]]
    return Embeddings(_without_rows(vectors, errors), items.without(errors), eye.layer, eye.fingerprint)


def _first_of_each(digests: Sequence[bytes | None]) -> dict[bytes, int]:
    first: dict[bytes, int] = {}
    for k, digest in enumerate(digests):
        if digest is not None:
            first.setdefault(digest, k)
    return first


def _without_rows(vectors: np.ndarray, bad: Collection[int]) -> np.ndarray:
    "The rows that are not in `bad`, moved up in place: a copy would double the memory."
    done = 0
    for k in range(len(vectors)):
        if k not in bad:
            if done != k:
                vectors[done] = vectors[k]
            done += 1
    return vectors[:done]


class _Eye:
    "A model, a hooked layer and a pooling: from a batch to vectors"

    def __init__(self, learn: Learner, looked: _Looked, probe: torch.Tensor, layer, pooling: nn.Module):
        self.model, self.pooling = learn.model, pooling
        self.device = next(learn.model.parameters()).device
        xb = looked.to_batch(probe, self.device)
        self.module = find_layer(self.model, xb, layer)
        self.layer = next(n for n, m in self.model.named_modules() if m is self.module)
        self.d = self._pooled(xb).shape[1]
        self.fingerprint = self._fingerprint(looked)

    def _fingerprint(self, looked: _Looked) -> bytes | None:
        "What the vectors depend on but for the images; `None` where that cannot be told."
        seen = looked.seen(self.device)
        if seen is None:
            return None
        versions = torch.__version__, PIL.__version__
        weights = (v.detach().cpu().float().numpy() for v in self.model.state_dict().values())
        return fingerprint_of(
            chain(versions, [repr(self.model), self.layer, repr(self.pooling), looked.size], seen, weights)
        )

    def see(self, xb: torch.Tensor, batch: int) -> np.ndarray:  # (len(xb), d) float32
        """The vectors of `xb`, seen in a batch of `batch`, filled up with the first image.

        The last bits of a result depend on the size of the batch: with always the same one, a run that was
        interrupted gives what an undisturbed one gives.
        """
        n = len(xb)
        if n < batch:
            xb = torch.cat([xb, xb[:1].expand(batch - n, *xb.shape[1:])])
        return self._pooled(xb)[:n].float().cpu().numpy()

    def _pooled(self, xb: torch.Tensor) -> torch.Tensor:
        # Depthwise convolutions are faster on CPUs in this layout.
        xb = xb.contiguous(memory_format=torch.channels_last) if xb.ndim == 4 else xb
        with hook_output(self.module) as hook:
            self.model(xb)
        out = hook.stored
        if not isinstance(out, torch.Tensor):
            name = type(self.module).__name__
            raise ValueError(f"layer {name} returns {type(out).__name__}, not one tensor; choose another")
        maps = as_maps(out, self.model)
        return (self.pooling(maps) if maps.ndim == 4 else maps).flatten(1)  # (bs, d)


def _workers(asked: int | None, n: int) -> int:
    if asked is not None:
        return asked
    # Elsewhere processes are spawned and would have to pickle the Learner's transforms, lambdas included.
    can_fork = sys.platform == "linux"
    return min(os.cpu_count() or 1, 8) if can_fork and n >= 128 else 0


def as_maps(out: torch.Tensor, model: nn.Module) -> torch.Tensor:  # (bs, c, h, w), or `out` as it is
    "A layer's output as feature maps: tokens of a transformer go back to their places, class tokens are dropped."
    if out.ndim == 4 and any(getattr(m, "output_fmt", None) == "NHWC" for m in model.modules()):
        return out.permute(0, 3, 1, 2)  # timm's Swin and its like
    if out.ndim == 3:  # (bs, tokens, d)
        side = math.isqrt(out.shape[1])  # a few class or register tokens stand before the square
        return out[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
    return out


class GeM(nn.Module):
    """Generalised mean over the cells of a `size` × `size` grid: `mean(x ** p) ** (1 / p)`, between mean and maximum.

    Source: Radenović, Tolias, Chum, "Fine-tuning CNN image retrieval with no human annotation", 2018, eq. 3.
    """

    def __init__(self, size: int = 1, p: float = 3.0):
        super().__init__()
        self.size, self.p = size, p

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (bs, c, h, w) -> (bs, c, size, size)
        "The generalised mean of each cell of the maps `x`."
        powers = nn.functional.adaptive_avg_pool2d(x.clamp_min(1e-6).pow(self.p), self.size)
        return powers.pow(1 / self.p)

    def extra_repr(self) -> str:
        "Side and exponent: they tell one pooling from another in the cache."
        return f"size={self.size}, p={self.p}"


class _Looked(Dataset):
    "Images as the Learner sees them in validation, or the reason why one cannot be seen"

    def __init__(self, learn: Learner, paths: Sequence[Path]):
        dl = learn.dls.loaders[-1]  # the validation set's, where there is one
        tl = image_tfms(next((d.dataset for d in learn.dls.loaders if len(d.dataset)), dl.dataset))
        # Pipelines of our own over the Learner's transforms: the Learner's keep the split they are set to.
        self.tfms = Pipeline(
            tl.tfms.fs[source_stage(tl) if len(tl.items) else _reader_stage(tl) :], split_idx=1
        )
        self.after_item = Pipeline(dl.after_item.fs, split_idx=1)
        self.after_batch = Pipeline(dl.after_batch.fs, split_idx=1)
        self.dls_device = learn.dls.device
        self.paths, self.mode = paths, _mode(self.tfms)
        self.size = vars(learn.dls).get("imgclean_size")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, k: int) -> tuple[int, torch.Tensor | None, str]:
        try:
            image = open_image(self.paths[k], self.size)
        except UnreadableImage as err:
            return k, None, str(err)
        x = image.convert(self.mode) if self.mode else self.paths[k]
        return k, self.after_item((self.tfms(x),))[0], ""

    def first(self) -> tuple[torch.Tensor | None, dict[int, str]]:
        "The first image that can be read, as a batch of one; those before it, with the reason."
        errors = {}
        for k in range(len(self)):
            _, x, error = self[k]
            if x is not None:
                return x[None], errors
            errors[k] = error
        return None, errors

    def seen(self, device: torch.device) -> list[np.ndarray] | None:
        "Pictures made on the spot as the model would see them; `None` where the Learner reads files its own way."
        if not self.mode:
            return None
        noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
        pictures = [Image.fromarray(a) for a in (noise, noise[:, :200], noise[:40, :56])]
        try:
            xs = [self.after_item((self.tfms(p.convert(self.mode)),))[0] for p in pictures]
            return [self.to_batch(x[None], device).cpu().numpy() for x in xs]
        except Exception:  # a transform that wants real images
            return None

    @staticmethod
    def collate(samples: list) -> tuple:  # (items, their batch, {item: error}, images looked at)
        errors = {k: error for k, x, error in samples if x is None}
        xs = [x for _, x, _ in samples if x is not None]
        shapes = {tuple(x.shape) for x in xs}
        if len(shapes) > 1:
            raise ValueError(
                f"the Learner's transforms give images of different sizes, such as {sorted(shapes)[:2]}; "
                "build its DataLoaders with item_tfms=Resize(224)"
            )
        good = [k for k, x, _ in samples if x is not None]
        return good, (torch.stack(xs) if xs else None), errors, len(samples)

    def to_batch(self, xb: torch.Tensor, device: torch.device) -> torch.Tensor:
        "The batch after the Learner's batch transforms, on `device`."
        return self.after_batch((xb.to(self.dls_device or device),))[0].to(device)


def _reader_stage(tl) -> int:
    "Where the images are opened, for an exported Learner, whose datasets are empty."
    for stage in range(len(tl.tfms.fs)):
        if _mode(Pipeline(tl.tfms.fs[stage:], split_idx=1)):
            return stage
    raise ValueError(
        "the exported Learner opens images in a way of its own; give the Learner that was exported"
    )


def _mode(tfms: Pipeline) -> str | None:
    """The Pillow mode in which the transforms take an opened image; None where they insist on a path.

    fastai's `PILImage.create` takes both. Opening files ourselves turns them upright and survives the formats
    that it does not; a Learner with a reader of its own keeps it.
    """
    try:
        return tfms(Image.new("RGB", (8, 8)))._open_args["mode"]
    except Exception:
        return None
