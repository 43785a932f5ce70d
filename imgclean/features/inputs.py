"""Images as a model sees them: opened, transformed and batched ahead of it, or the reason why one cannot be seen."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import timm
import torch
from fastai.vision.all import Learner, Pipeline
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from ..dataset.images import UnreadableImage, open_image
from ..dataset.learners import image_tfms, source_stage

Box = tuple[float, float, float, float]  # left, top, right, bottom, in parts of an image's width and height
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


class LearnerInputs:
    "What a Learner's own transforms for validation make of an image"

    def __init__(self, learn: Learner):
        dl = learn.dls.loaders[-1]  # the validation set's, where there is one
        tl = image_tfms(next((d.dataset for d in learn.dls.loaders if len(d.dataset)), dl.dataset))
        # Pipelines of our own over the Learner's transforms: the Learner's keep the split they are set to.
        self.tfms = Pipeline(
            tl.tfms.fs[source_stage(tl) if len(tl.items) else _reader_stage(tl) :], split_idx=1
        )
        self.after_item = Pipeline(dl.after_item.fs, split_idx=1)
        self.after_batch = Pipeline(dl.after_batch.fs, split_idx=1)
        self.mode = _mode(self.tfms)  # Pillow's, or None where a path is wanted
        self.size = vars(learn.dls).get("imgclean_size")
        self.cure = "build its DataLoaders with item_tfms=Resize(224)"

    def tensor(self, x: Image.Image | Path) -> torch.Tensor:  # (c, h, w)
        "An opened image, or its path where `mode` is None, after the item transforms."
        return self.after_item((self.tfms(x),))[0]

    def batch(self, xb: torch.Tensor) -> torch.Tensor:
        "A batch after the batch transforms."
        return self.after_batch((xb,))[0]


def batch_of(learn: Learner, path: str | os.PathLike) -> torch.Tensor:  # (1, c, h, w), on the model's device
    "One image as the Learner sees it in validation; raises `UnreadableImage`."
    return seen_of(LearnerInputs(learn), path, next(learn.model.parameters()).device)[0]


class ModuleInputs:
    "What a transform such as torchvision's and timm's makes of an image"

    mode, size = "RGB", None

    def __init__(self, model: nn.Module, tfm: Callable[[Image.Image], torch.Tensor] | None = None):
        if tfm is None:
            if not hasattr(model, "pretrained_cfg"):  # timm's models know what they were trained on
                raise ValueError(
                    f"a {type(model).__name__} is given without its transform; give tfm=, "
                    "a function from a PIL image to a tensor (channels, height, width)"
                )
            tfm = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
        self.tfm, self.cure = tfm, "give a tfm that resizes to one size"

    def tensor(self, x: Image.Image) -> torch.Tensor:  # (c, h, w)
        "An opened image after the transform."
        out = self.tfm(x)
        if not isinstance(out, torch.Tensor) or out.ndim != 3:
            what = f"shape {tuple(out.shape)}" if isinstance(out, torch.Tensor) else type(out).__name__
            raise ValueError(
                f"tfm returns {what}; it must make a tensor (channels, height, width) of an image"
            )
        return out

    def batch(self, xb: torch.Tensor) -> torch.Tensor:
        "The batch as it is."
        return xb


def seen_of(
    inputs: LearnerInputs | ModuleInputs, path: str | os.PathLike, device: torch.device
) -> tuple[torch.Tensor, Box]:  # (1, c, h, w) on `device`, and where in the image that lies
    "One image as a model sees it, and which part of it that is; raises `UnreadableImage`."
    image = open_image(path, inputs.size)
    x = inputs.tensor(image.convert(inputs.mode) if inputs.mode else Path(path))
    return inputs.batch(x[None].to(device)), _seen_part(inputs, image.size, device)


def _seen_part(inputs: LearnerInputs | ModuleInputs, size: tuple[int, int], device: torch.device) -> Box:
    """Which part of an image of `size` the transforms leave, beyond its edges where they pad.

    Read off pictures made on the spot: black, white, brighter from left to right, and from top to bottom.
    """
    if not inputs.mode:
        return WHOLE
    flat = (_seen(inputs, Image.new("L", (64, 64), v), device) for v in (0, 255))
    black, white = (float(z[z.shape[0] // 2, z.shape[1] // 2]) for z in flat)
    if not abs(white - black) > 1e-6:  # each picture has a scale of its own
        return WHOLE
    ramps = [np.uint8(255 * (np.arange(n) + 0.5) / n + 0.5) for n in size]
    drawn = Image.fromarray(ramps[0][None]), Image.fromarray(ramps[1][:, None])
    x, y = (_seen(inputs, ramp.resize(size, Image.Resampling.NEAREST), device) for ramp in drawn)
    rows, columns = map(_middle, x.shape)
    across, down = (
        ((z[rows, columns] - black) / (white - black)).mean(axis) for axis, z in enumerate((x, y))
    )
    (left, right), (top, bottom) = (
        _edges(across, columns.start, x.shape[1]),
        _edges(down, rows.start, x.shape[0]),
    )
    return left, top, right, bottom


def _seen(
    inputs: LearnerInputs | ModuleInputs, image: Image.Image, device: torch.device
) -> np.ndarray:  # (h, w)
    "A grey picture after the transforms."
    xb = inputs.batch(inputs.tensor(image.convert(inputs.mode))[None].to(device))
    return xb[0].as_subclass(torch.Tensor).float().mean(0).cpu().numpy()


def _middle(n: int) -> slice:
    "The middle quarter, where nothing is padded, mirrored or faded."
    return slice(3 * n // 8, n - 3 * n // 8)


def _edges(places: np.ndarray, start: int, n: int) -> tuple[float, float]:
    "Where a line through the `places` of the pixels from `start` on begins and ends, `n` pixels apart."
    slope, first = np.polyfit(np.arange(start, start + len(places)), places, 1)
    return float(first - slope / 2), float(first + slope * (n - 0.5))


class Looked(Dataset):
    "Row k: image k as the model sees it, or the reason why it cannot be seen"

    def __init__(
        self, inputs: LearnerInputs | ModuleInputs, paths: Sequence[Path], max_pixels: int | None = None
    ):
        self.inputs, self.paths, self.max_pixels = inputs, paths, max_pixels
        self.lock = nullcontext()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, k: int) -> tuple[int, torch.Tensor | None, str]:
        try:
            image = open_image(self.paths[k], self.inputs.size, self.max_pixels)
        except UnreadableImage as err:
            return k, None, str(err)
        mode = self.inputs.mode
        with self.lock:
            return k, self.inputs.tensor(image.convert(mode) if mode else self.paths[k]), ""

    def first(self) -> tuple[torch.Tensor | None, dict[int, str]]:
        "The first image that can be read, as a batch of one; those before it, with the reason."
        errors = {}
        for k in range(len(self)):
            _, x, error = self[k]
            if x is not None:
                return x[None], errors
            errors[k] = error
        return None, errors

    def seen(self) -> list[torch.Tensor] | None:  # each (c, h, w)
        "Pictures made on the spot after the item transforms; `None` where files are read in a way of their own."
        if not self.inputs.mode:
            return None
        noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
        pictures = [Image.fromarray(a) for a in (noise, noise[:, :200], noise[:40, :56])]
        try:
            return [self.inputs.tensor(p.convert(self.inputs.mode)) for p in pictures]
        except Exception:  # a transform that wants real images
            return None

    def collate(self, samples: list) -> tuple:  # (items, their batch, {item: error}, images looked at)
        "The images that can be read as one batch, and the others with their reasons."
        errors = {k: error for k, x, error in samples if x is None}
        xs = [x for _, x, _ in samples if x is not None]
        shapes = {tuple(x.shape) for x in xs}
        if len(shapes) > 1:
            raise ValueError(
                f"the transforms give images of different sizes, such as {sorted(shapes)[:2]}; {self.inputs.cure}"
            )
        good = [k for k, x, _ in samples if x is not None]
        return good, (torch.stack(xs) if xs else None), errors, len(samples)


def lanes_for(device: torch.device, n: int, num_workers: int | None = None) -> int:
    """How many processes decode and compute side by side, one thread each; 0: this process computes.

    On a CPU that is faster than one process that computes with all cores while others decode for it: nobody waits for
    a thread whose core decodes, and vectors are handed over instead of pixels (docs/benchmarks.md).
    """
    if device.type != "cpu" or sys.platform != "linux" or (num_workers is None and n < 64):
        return 0
    return _cores() if num_workers is None else num_workers


def _cores() -> int:
    "Cores that this process may use, at most 16: each lane takes memory for its batch."
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(own, 16)


def batches(
    looked: Looked,
    ks: Sequence[int],
    see: Callable[[torch.Tensor], np.ndarray],  # from a batch to vectors
    bs: int,
    num_workers: int | None = None,
    lanes: int = 0,  # see `lanes_for`
) -> Iterator[tuple]:  # (items, their vectors, {item: error}, images looked at)
    "What `see` makes of the items `ks`, `bs` at a time, and the reasons why some cannot be seen."

    def seen(batch: tuple) -> tuple:
        good, xb, *rest = batch
        return good, see(xb) if good else None, *rest

    if lanes and ks:
        yield from _in_lanes(looked, ks, seen, bs, lanes)
    else:
        yield from map(seen, decoded(looked, ks, bs, num_workers))


def _in_lanes(looked: Looked, ks: Sequence[int], seen: Callable, bs: int, lanes: int) -> Iterator[tuple]:
    def look(samples: list) -> tuple | ValueError:
        try:
            return seen(looked.collate(samples))
        except ValueError as err:  # a sentence for the user, which DataLoader would bury in a traceback
            return err

    lanes = min(lanes, -(-len(ks) // bs))
    for batch in _loader(looked, ks, bs, lanes, look):
        if isinstance(batch, ValueError):
            raise batch
        yield batch


def decoded(looked: Looked, ks: Sequence[int], bs: int, num_workers: int | None = None) -> Iterator[tuple]:
    """What `Looked.collate` returns, for `bs` of the items `ks` at a time, decoded ahead of their use.

    In processes where they can be forked. Elsewhere they would have to pickle the Learner's transforms, lambdas
    included, so threads decode, which Pillow allows by releasing the interpreter's lock.
    """
    workers = min(_cores(), 8, len(ks) // 64) if num_workers is None else num_workers
    if workers and sys.platform != "linux":
        return _by_threads(looked, ks, bs, workers)
    return iter(_loader(looked, ks, bs, workers, looked.collate))


def _loader(looked: Looked, ks: Sequence[int], bs: int, workers: int, collate: Callable) -> DataLoader:
    fork = "fork" if workers else None  # Python 3.14 would start them in a way that has to pickle
    return DataLoader(
        Subset(looked, ks), bs, num_workers=workers, collate_fn=collate, multiprocessing_context=fork,
        worker_init_fn=_end_with_parent,
    )  # fmt: skip


def _end_with_parent(_: int) -> None:
    """Where the parent is killed, this process ends as well.

    PyTorch's own watch ends its loop, but not the thread that hands over results: the pipe is full, nobody reads, and
    it does not break, since the other processes inherited its reading end.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _by_threads(looked: Looked, ks: Sequence[int], bs: int, workers: int) -> Iterator[tuple]:
    looked.lock = (
        threading.Lock()
    )  # fastai's transforms keep state; opening, which takes the time, is parallel
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque = deque()
        for start in range(0, len(ks), bs):
            ahead.append([pool.submit(looked.__getitem__, k) for k in ks[start : start + bs]])
            if len(ahead) > 2:  # as far ahead as a DataLoader's processes are
                yield looked.collate([future.result() for future in ahead.popleft()])
        for futures in ahead:
            yield looked.collate([future.result() for future in futures])


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
