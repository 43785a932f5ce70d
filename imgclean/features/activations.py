"""One pass of a model over images: hook its layers, pool each batch, keep one vector an image. Searches nothing."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple

import numpy as np
import PIL
import timm
import torch
from fastai.layers import AdaptiveConcatPool2d
from fastai.torch_core import default_device
from fastai.vision.all import Learner
from fastcore.imports import IN_NOTEBOOK
from fastprogress.fastprogress import progress_bar
from PIL import Image
from torch import nn
from tqdm.auto import tqdm

from ..dataset.items import Items
from .backbones import evaluating, layer_names
from .cache import Cache, code_of, fingerprint_of
from .inputs import LearnerInputs, Looked, ModuleInputs, batches, lanes_for
from .precision import CHUNK, PRECISIONS, Plans, give_back_memory, memory_kept, threads
from .rows import Rows

SCHEME = 1  # to be raised when the same model and images give other vectors than before
TIMED_FROM = 500  # images: for fewer, trying out precisions takes longer than it saves


class Embeddings(NamedTuple):
    "What a pass over images hands on; row k belongs to the k-th readable image"

    vectors: np.ndarray  # (n, d) float32 or float16; a np.memmap where it is large
    items: Items  # the n readable images; the others are in `items.unreadable`
    layer: str  # dotted name of the hooked layer; several are joined by " + "
    fingerprint: bytes | None = (
        None  # what the vectors depend on but for the images; None: that cannot be told
    )
    precision: str = "fp32"  # how they were computed
    parts: tuple[slice, ...] = ()  # columns of each layer
    computed: int = 0  # how many of the n were looked at; the others were in the cache, or are equal files


def embed(
    source: Learner | nn.Module,  # what looks; a module needs `tfm`, but for timm's, which know theirs
    items: Items,
    layer: nn.Module | str | Sequence | None = None,  # see `layer_names`; a list of them hooks several
    pool: Callable[[int], nn.Module]
    | None = AdaptiveConcatPool2d,  # None: flatten the layer's output as it is
    pool_dim: int = 1,  # side of the pooled map; the article's is 4
    *,
    tfm: Callable[[Image.Image], torch.Tensor] | None = None,  # from an RGB image to (c, h, w), for a module
    precision: str | None = None,  # one of `PRECISIONS`; None: the fastest here that agrees with fp32
    dtype: np.dtype | str = "float32",  # of the vectors; "float16" halves them
    bs: int = 64,  # images in a batch
    num_workers: int
    | None = None,  # processes that work side by side; None: as many as cores, where that pays
    max_pixels: int | None = None,  # larger images are unreadable; None: Pillow's limit, 179 million
    progress: bool | str = True,  # a bar on stderr or in the notebook, or one with this label that goes away;
    # never where stderr is no terminal
    cache: bool | str | os.PathLike = False,  # True: keep vectors in the user's cache folder; or a folder
) -> Embeddings:
    """One vector for each readable image: the hooked layers' outputs, pooled batch by batch, flattened.

    The images go through the Learner's own transforms for validation. The model stays as it is. Memory is one batch:
    large results are memory-mapped from a file without a name. With `cache`, what was looked at before by the same
    model, layer, pooling and transforms is not looked at again. Raises `ValueError` for what does not exist or fit.
    """
    if not len(items):
        raise ValueError("there are no images to look at; give a folder or a Learner that holds some")
    if str(dtype) not in ("float32", "float16") and dtype not in (np.float32, np.float16):
        raise ValueError(f"dtype is {dtype}; give 'float32' or 'float16'")
    if precision is not None and precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; give one of {', '.join(PRECISIONS)}, or None")
    model, inputs, device = looker(source, tfm)
    looked = Looked(inputs, items.paths, max_pixels)
    lanes = lanes_for(device, len(items), num_workers)
    with evaluating(model), torch.no_grad(), memory_kept(device), threads(1 if lanes else None):
        probe, errors = looked.first()
        if probe is None:
            return Embeddings(np.empty((0, 0), dtype=dtype), items.without(errors), "")
        pooling = pool(pool_dim) if pool else nn.Identity()
        with closing(Eye(model, looked, probe, layer, pooling, device, bs, lanes)) as eye:
            run = _Pass(eye, len(items), np.dtype(dtype), cache)
            run.recall(items, precision)
            size = min(bs, 2 * CHUNK) if lanes else bs
            give_back_memory()
            looks = batches(looked, run.todo, eye.see, size, num_workers, lanes)
            run.look(looks, _bar(source, run, progress), errors)
    vectors = run.rows.array(without=errors)
    layers = " + ".join(eye.layers)
    parts, computed = tuple(eye.parts), sum(k not in errors for k in run.todo)
    return Embeddings(vectors, items.without(errors), layers, run.fingerprint, eye.precision, parts, computed)


class Eye:
    "A model, its hooked layers and a pooling: from a batch to vectors"

    def __init__(
        self,
        model,
        looked: Looked,
        probe: torch.Tensor,
        layer,
        pooling: nn.Module,
        device,
        bs: int,
        lanes: int,
    ):
        self.lanes = max(lanes, 1)  # processes that share the work
        self.looked, self.device, self.precision, self.probe = looked, device, "", probe
        own = next(iter(model.parameters()), torch.zeros(1))  # a model may be elsewhere, or in half precision
        self.layers = layer_names(model, self._batch(probe).to(own.device, own.dtype), layer)
        xb = self._batch(probe)
        self.plans = Plans(model, self.layers, pooling, device, xb)
        self.device = self.plans.device
        widths = [v.shape[1] for v in self.plans.seen]
        ends = np.cumsum(widths).tolist()
        self.parts = [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]
        self.d = ends[-1]
        # A CPU gains nothing by large chunks, a GPU is filled by them.
        self.chunk = min(bs, CHUNK) if device.type == "cpu" else bs
        try:
            self.about = self._about(model, pooling)
        except BaseException:
            self.close()
            raise

    def _about(self, model: nn.Module, pooling: nn.Module) -> list | None:
        "What the vectors depend on but for the images; `None` where that cannot be told."
        pictures = self.looked.seen()
        if pictures is None:
            return None
        try:
            seen = [self._batch(x[None]).cpu().numpy() for x in pictures]
        except Exception:  # a batch transform that wants real images
            return None
        parts = [(name, m) for name, m in model.named_modules() if name not in self.plans.unused]
        shape = [f"{name} {type(m).__name__}({m.extra_repr()})" for name, m in parts]
        shape += [
            code_of(c) for c in dict.fromkeys(type(m) for m in (model, *(m for _, m in parts), pooling))
        ]
        own = [v for _, m in parts for v in (*m.parameters(recurse=False), *m.buffers(recurse=False))]
        own += pooling.state_dict().values()
        weights = fingerprint_of(_array(v) for v in own)
        versions = [SCHEME, sys.version_info[:2], torch.__version__, PIL.__version__, timm.__version__]
        settings = [*self.layers, repr(pooling), self.looked.inputs.size, self.looked.max_pixels]
        return [*versions, *shape, *settings, *seen, weights]

    def fingerprint(self, *more: object) -> bytes | None:
        "Digest of all that vectors depend on, and of `more`, but for the images; `None` where that cannot be told."
        return None if self.about is None else fingerprint_of([*self.about, *more])

    def open(self, precision: str | None, n: int) -> None:
        "Get ready to look at `n` images, in the fastest of the precisions where none is given."
        if precision is None:
            precision = self.plans.fastest(self._some(), n / self.lanes) if n >= TIMED_FROM else "fp32"
        self.precision, self.network = precision, self.plans.network(precision)
        if precision.endswith("-compile"):  # now: each lane would compile for itself
            self.network(self._some()[: self.chunk])

    def close(self) -> None:
        "Leave the model without our hooks."
        self.plans.close()

    @torch.no_grad()
    def see(self, xb: torch.Tensor) -> np.ndarray:  # (len(xb), d) float32
        """The vectors of a batch, seen in chunks of always the same size, the last one filled up.

        The last bits of a result depend on that size: with always the same one, a run that was interrupted gives
        what an undisturbed one gives. It is halved where a GPU's memory does not hold it.
        """
        xb = self._batch(xb)
        while True:
            try:
                return np.concatenate([self._chunk(x) for x in xb.split(self.chunk)])
            except RuntimeError as err:  # CUDA's and MPS's own classes are kinds of it
                if "out of memory" not in str(err).lower() or self.chunk == 1:
                    raise
                self.chunk = max(self.chunk // 2, 1)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()

    def _chunk(self, xb: torch.Tensor) -> np.ndarray:
        n = len(xb)
        if n < self.chunk:
            xb = torch.cat([xb, xb[:1].expand(self.chunk - n, *xb.shape[1:])])
        return self.network(xb)[:n].float().cpu().numpy()

    def _batch(self, xb: torch.Tensor) -> torch.Tensor:
        # On the device of the Learner's batch transforms; fastai's subclasses of tensors would slow all down.
        return self.looked.inputs.batch(xb.to(self.device)).to(self.device).as_subclass(torch.Tensor)

    def _some(self) -> torch.Tensor:
        "A chunk of images to try precisions on."
        samples = [(0, self.probe[0], "")]
        for k in range(0, len(self.looked), max(len(self.looked) // (4 * self.chunk), 1)):
            if len(samples) <= self.chunk and (sample := self.looked[k])[1] is not None:
                samples.append(sample)
        samples = (samples[1:] or samples) * self.chunk
        return self._batch(self.looked.collate(samples[: self.chunk])[1])


def _array(value: object) -> object:
    "A tensor as an array, whatever its precision; what is no plain tensor as text."
    if isinstance(value, torch.Tensor) and not value.is_quantized:
        return value.detach().cpu().float().numpy()
    return repr(value)


class _Pass:
    "The vectors of a run: those that are known, those of equal files, and those that have to be computed"

    def __init__(self, eye: Eye, n: int, dtype: np.dtype, cache: bool | str | os.PathLike):
        self.eye, self.dtype, self.n = eye, dtype, n
        self.store = Cache.of(cache) if eye.about is not None else None
        self.rows = Rows(n, eye.d, dtype, self.store.path.parent if self.store else None)
        self.fingerprint: bytes | None = None

    def recall(self, items: Items, precision: str | None) -> None:
        "Take what is in the cache, and note in `todo` what is not."
        self.digests = self.store.digests(items.paths) if self.store else range(self.n)
        self.first: dict[object, int] = {}  # digest -> the first item that has it
        for k, digest in enumerate(self.digests):
            if digest is not None:
                self.first.setdefault(digest, k)
        if self.store and precision is None:
            precision = self._precision_of_most()
        self.eye.open(precision, len(self.first))
        self.fingerprint = self.eye.fingerprint(self.eye.precision, self.dtype.name)
        wanted = dict(self.first)
        if self.store:
            for digest, row in self.store.get(self.fingerprint, self.first, self.eye.d, self.dtype):
                self.rows[wanted.pop(digest)] = row
        self.todo = sorted(
            [*wanted.values(), *(k for k, digest in enumerate(self.digests) if digest is None)]
        )

    def _precision_of_most(self) -> str | None:
        "The precision in which the cache holds most of the images, if it holds a twentieth: none is looked at twice."
        held = {
            name: self.store.count(self.eye.fingerprint(name, self.dtype.name), self.first)
            for name in PRECISIONS
        }
        best = max(held, key=held.get)
        return best if held[best] * 20 >= max(len(self.first), 1) and held[best] else None

    def look(self, seen, bar, errors: dict[int, str]) -> None:
        "Compute what is missing, batch by batch; each is in the cache when the next begins."
        with bar as advance:
            for ks, vectors, failed, size in seen:
                errors.update(failed)
                if ks:
                    vectors = self._as_stored(vectors)
                    self.rows.put(ks, vectors)
                    if self.store:
                        kept = [place for place, k in enumerate(ks) if self.digests[k]]
                        self.store.put(self.fingerprint, [self.digests[ks[p]] for p in kept], vectors[kept])
                advance(size)
        for k, digest in enumerate(self.digests):
            if digest is not None and (first := self.first[digest]) != k:
                self.rows[k] = self.rows[first]
                if first in errors:
                    errors[k] = errors[first]

    def _as_stored(self, vectors: np.ndarray) -> np.ndarray:
        if self.dtype == np.float16:  # it ends at 65,504; a cosine hardly feels the cut
            vectors = vectors.clip(-65504, 65504)
        return vectors.astype(self.dtype, copy=False)


def looker(source, tfm=None) -> tuple[nn.Module, LearnerInputs | ModuleInputs, torch.device]:
    "The model, what it sees of an image, and the device to compute on."
    if isinstance(source, Learner):
        if tfm is not None:
            raise ValueError(
                "tfm is given with a Learner, which has transforms of its own; give learn.model to use tfm"
            )
        own = next((p.device for p in source.model.parameters()), torch.device("cpu"))
        return source.model, LearnerInputs(source), torch.device(source.dls.device or own)
    if not isinstance(source, nn.Module):
        raise TypeError(f"got a {type(source).__name__} to look with; give a fastai Learner or an nn.Module")
    if isinstance(source, torch.jit.ScriptModule):
        raise TypeError(
            "got a TorchScript module, whose layers cannot be hooked; give the module it was made of"
        )
    own = next((p.device for p in source.parameters()), torch.device("cpu"))
    return source, ModuleInputs(source, tfm), default_device() if own.type == "cpu" else own


@contextmanager
def _bar(source, run: _Pass, progress: bool | str) -> Iterator[Callable[[int], object]]:
    "A function to call with the number of images just done: fastai's bar in a notebook with a Learner, else tqdm's."
    learner, n = isinstance(source, Learner), len(run.todo)
    passing = isinstance(progress, str)  # a step of something larger
    label = progress if passing else "looking"
    if learner and not hasattr(source, "progress"):  # within `learn.no_bar()`
        progress = False
    if not (learner and progress and n and IN_NOTEBOOK):
        with tqdm(total=run.n, initial=run.n - n, desc=label, unit="img", leave=not passing,
                  disable=None if progress else True) as bar:  # fmt: skip
            yield bar.update
        return
    bar, start, done = progress_bar(range(n), leave=not passing), time.time(), 0
    bar.comment = label
    bar.update(0)

    def advance(more: int) -> None:
        nonlocal done
        done += more
        bar.comment = f"{label}, {done / max(time.time() - start, 1e-6):.0f} images/s"
        bar.update(done)

    try:
        yield advance
    except BaseException:
        bar.on_interrupt()
        raise
