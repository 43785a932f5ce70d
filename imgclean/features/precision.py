"""How to compute a forward pass fast: fold batch norms, lower precision, compile, keep memory. Knows no images."""

from __future__ import annotations

import copy
import ctypes
import logging
import platform
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from time import perf_counter

import torch
from fastai.callback.hook import Hooks
from timm.layers import Conv2dSame
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .pooling import Pooled

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = tuple(name + end for name in DTYPES for end in ("", "-compile"))
AGREEMENT = 0.999  # cosine of an image's vector with the one in plain fp32
GAIN = 1.15  # times faster than fp32: less is within the noise of the timing
CHUNK = 16  # images in a forward pass on a CPU: more only take more memory


class Plans:
    """The ways to compute what `layers` of `model` return, pooled: a network for each of `PRECISIONS`.

    They work on a copy; `model` stays as it is, but for the hooks of `plain` until `close`. A model that cannot be
    copied is used itself, in fp32 alone, where it is. `seen` are the vectors of `xb`, a tensor for each layer; `unused`
    are names of modules that no vector depends on.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str],
        pooling: nn.Module,
        device: torch.device,
        xb: torch.Tensor,
    ):
        self.model, self.layers, self.pooling, self.device = model, layers, pooling, device
        self.bare, self.layout = None, torch.contiguous_format
        try:
            self.bare = self._copy()
        except Exception as err:  # some hold what cannot be copied, such as the outputs of an earlier pass
            log.debug("the model is used as it is: %s", err)
            own = next(iter(model.parameters()), None)
            self.device = device if own is None else own.device
        values = [*model.parameters(), *model.buffers()]
        as_it_is = all(v.device == device and v.dtype in (torch.float32, torch.int64) for v in values)
        # A second copy of a large model is a lot of memory: only where it computes elsewhere or in another precision.
        self.plain = Pooled(model if as_it_is or self.bare is None else self._copy(), layers, pooling)
        try:
            seeing = self.plain.model
            with torch.no_grad(), feeding(seeing) as pairs, only_after(seeing, layers) as self.unused:
                self.seen = self.plain.parts(xb)
            if self.bare is not None:
                self._prepare(xb, pairs)
        except BaseException:
            self.close()
            raise

    def _copy(self) -> nn.Module:
        return copy.deepcopy(self.model).eval().float().requires_grad_(False).to(self.device)

    def _prepare(self, xb: torch.Tensor, pairs: Sequence[tuple[str, str]]) -> None:
        "Fold batch norms and lay out the weights for convolutions, where the vectors stay the same."
        expected = torch.cat(self.seen, 1)
        for fold in (True, False):
            if self._agrees(xb, expected, pairs if fold else None):
                self.layout = torch.channels_last
                return
            self.plain.unhook()  # hooks would be copied
            self.bare = None  # its memory first
            self.bare = self._copy()
            self.plain.hook()

    def _agrees(self, xb: torch.Tensor, expected: torch.Tensor, pairs: Sequence | None) -> bool:
        "Whether `bare` still gives the vectors `expected`, laid out for convolutions, and folded where `pairs` are given."
        try:
            bare = self.bare.to(memory_format=torch.channels_last)
            if pairs is not None:
                fold_batch_norms(bare, pairs, keep=self.layers)
                fold_same_padding(bare)
            net = Pooled(bare, self.layers, self.pooling, layout=torch.channels_last)
            agreement = _agreement(net(xb), expected)
            net.unhook()
        except Exception as err:  # weights that are computed, or a `view` that wants another layout
            log.debug("the model is used %s: %s", "in its own layout" if pairs is None else "unfolded", err)
            return False
        return agreement > 1 - 1e-6

    def network(self, precision: str = "fp32") -> Callable[[torch.Tensor], torch.Tensor]:
        "From a batch on the device to vectors, (bs, d) float32."
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r}; give one of {', '.join(PRECISIONS)}, or None")
        if self.bare is None:
            if precision != "fp32":
                raise ValueError(
                    f"precision is {precision!r}, but this model cannot be copied; give precision='fp32'"
                )
            return self.plain
        name, _, compiled = precision.partition("-")
        model = self.bare if name == "fp32" else copy.deepcopy(self.bare).to(DTYPES[name])
        net = Pooled(model, self.layers, self.pooling, DTYPES[name], self.layout)
        return torch.compile(net, dynamic=False, options={"freezing": True}) if compiled else net

    def fastest(self, xb: torch.Tensor, n: float) -> str:  # n: images for each process
        "The precision that computes `n` images like those of `xb` soonest and agrees with plain fp32."
        if self.bare is None:
            return "fp32"
        names, expected = _eager(self.device), None
        if len(names) > 1:
            expected = self.plain(xb)
            seconds = {name: self._seconds(name, xb, expected) for name in names}
        else:  # nothing to choose from: one pass tells whether compiling may pay
            few = xb[:4]
            seconds = {"fp32": self._seconds("fp32", few, None, passes=1) * len(xb) / len(few)}
        best = min(seconds, key=seconds.get)
        if seconds[best] * GAIN > seconds["fp32"]:
            best = "fp32"
        left = n * seconds[best] / len(xb)
        if left > _worth_compiling(self.device, best):
            expected = self.plain(xb) if expected is None else expected
            compiled = self._seconds(f"{best}-compile", xb, expected)
            if compiled * GAIN < self._seconds(best, xb, expected):
                return f"{best}-compile"
        return best

    def _seconds(
        self, precision: str, xb: torch.Tensor, expected: torch.Tensor | None, passes: int = 3
    ) -> float:
        "Seconds that one pass of `xb` takes; infinity where it fails or gives other vectors."
        net = None
        try:
            net = self.network(precision)
            if precision != "fp32" and _agreement(net(xb), expected) < AGREEMENT:
                return float("inf")
            return median(_timed(net, xb) for _ in range(passes))
        except Exception as err:  # no compiler, or an operation that this precision lacks
            log.debug("%s is left out: %s", precision, err)
            return float("inf")
        finally:
            if isinstance(net, nn.Module):  # fp32 works on `bare` itself, where hooks would pile up
                net.unhook()

    def close(self) -> None:
        "Leave the model without hooks."
        self.plain.unhook()


def _timed(net: Callable, xb: torch.Tensor) -> float:
    start = perf_counter()
    net(xb).cpu()  # waits for the device
    return perf_counter() - start


def _agreement(a: torch.Tensor, b: torch.Tensor) -> float:
    "The least cosine of a row with its counterpart; 0 where a number is not finite."
    cosine = nn.functional.cosine_similarity(a.cpu().double(), b.cpu().double(), dim=1)
    same = (a == b).all(1).cpu()  # zero vectors too
    return float(torch.where(same, 1.0, cosine).nan_to_num(0).min())


def _eager(device: torch.device) -> list[str]:
    "The precisions that may pay on `device`; on a CPU bf16 is emulated, and slow, unless it has units for it."
    if device.type == "cpu":
        units = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {"bf16": True}
        return ["fp32", "bf16"] if any(has for unit, has in units.items() if "bf16" in unit) else ["fp32"]
    return ["fp32", "fp16"] if device.type == "mps" else ["fp32", "bf16", "fp16"]


def _worth_compiling(device: torch.device, precision: str) -> float:
    "Seconds of work left from which on a compilation, 10 to 40 seconds, is earned back; see docs/benchmarks.md."
    if device.type == "mps":
        return float("inf")
    return 100.0 if precision != "fp32" or device.type == "cuda" else 300.0


@contextmanager
def feeding(model: nn.Module) -> Iterator[list[tuple[str, str]]]:
    "Names of each convolution and of the one batch norm that it feeds, both used once, as the pass within shows."
    made_by, fed, calls, pairs = {}, [], Counter(), []

    def note(module, args, out):
        calls[module] += 1
        if isinstance(module, nn.Conv2d):
            made_by[id(out)] = module, out  # the tensor is held: its id must not be given to another
        elif isinstance(module, nn.BatchNorm2d) and args and id(args[0]) in made_by:
            fed.append((made_by[id(args[0])][0], module))

    parts = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    with Hooks(parts, note, detach=False):
        yield pairs
    names = {m: name for name, m in model.named_modules()}
    readers = Counter(conv for conv, _ in fed)
    pairs += [(names[c], names[norm]) for c, norm in fed if calls[c] == calls[norm] == readers[c] == 1]


@contextmanager
def only_after(model: nn.Module, layers: Sequence[str]) -> Iterator[set[str]]:
    "Names of the modules that the pass within runs only when all of `layers` have: a head."
    open_layers, after = set(layers), set()
    ran: dict[nn.Module, bool] = {}  # module -> before the last layer has finished
    handles = []

    def begins(m, _inputs):
        ran[m] = ran.get(m, False) or bool(open_layers)

    def ends(name, *_):
        open_layers.discard(name)

    try:
        for m in model.modules():
            if not isinstance(m, torch.jit.ScriptModule):  # which takes no hook
                handles.append(m.register_forward_pre_hook(begins))
        for name in layers:
            handles.append(model.get_submodule(name).register_forward_hook(partial(ends, name)))
        yield after
    finally:
        for handle in handles:
            handle.remove()
    after |= {name for name, m in model.named_modules() if ran.get(m) is False}


def fold_batch_norms(
    model: nn.Module,
    pairs: Sequence[tuple[str, str]],  # as `feeding` found them in a pass of the model, or of one like it
    keep: Sequence[str] = (),  # convolutions that stay, since somebody looks at their output
) -> int:
    """How many batch norms of `model` were folded, in place, into the convolution that feeds them.

    The caller compares: a convolution whose output is read elsewhere too gives other vectors.
    """
    places, done = defaultdict(list), 0
    for name, m in model.named_modules(remove_duplicate=False):  # a module may have several names
        places[m].append(name)
    for name, its_norm in pairs:
        conv, norm = model.get_submodule(name), model.get_submodule(its_norm)
        if name in keep or norm.running_mean is None:
            continue
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        rest = [getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)]  # timm's norms
        instead = nn.Sequential(*rest) if rest else nn.Identity()
        for place in places[norm]:
            _put(model, place, instead)
        done += 1
    return done


class FoldedSame(nn.Module):
    """A convolution of stride 2 that pads as TensorFlow does, without a padded copy of the maps where sides are even.

    There it pads one more after the image than before it, (k - 2) in all. A kernel with a row and a column of zeros
    before it and the same padding on each side gives the same.
    """

    def __init__(self, conv: Conv2dSame):
        super().__init__()
        self.conv = conv
        self.weight = nn.Parameter(nn.functional.pad(conv.weight.detach(), (1, 0, 1, 0)), requires_grad=False)
        self.padding = [k // 2 for k in conv.kernel_size]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        "What the convolution returns."
        if x.shape[-2] % 2 or x.shape[-1] % 2:
            return self.conv(x)
        conv = self.conv
        return nn.functional.conv2d(x, self.weight, conv.bias, conv.stride, self.padding, groups=conv.groups)


def fold_same_padding(model: nn.Module) -> int:
    "How many of timm's convolutions with TensorFlow's padding, as in EfficientNet-Lite, were replaced in place."
    fit = [
        name
        for name, m in model.named_modules()
        if isinstance(m, Conv2dSame)
        and m.stride == (2, 2)
        and m.dilation == (1, 1)
        and all(
            k % 2 and k > 1 for k in m.kernel_size
        )  # an even one pads alike on both sides, a single one never
    ]
    for name in fit:
        _put(model, name, FoldedSame(model.get_submodule(name)))
    return len(fit)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    "torch computes with `n` threads in the meantime; `None`: with as many as it did."
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def memory_kept(device: torch.device) -> Iterator[None]:
    """Freed memory stays with the process in the meantime, on Linux with glibc, where a model computes on the CPU.

    By default each large tensor is a new mapping, whose pages are zeroed at the first touch: measured as long as the
    arithmetic of a light network (docs/benchmarks.md).
    """
    if device.type != "cpu" or (libc := _glibc()) is None:
        yield
        return
    trim_threshold, mmap_threshold, mmap_max = -1, -3, -4  # from malloc.h
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**30)
    try:
        yield
    finally:  # what glibc sets by itself once a program has freed large blocks
        libc.mallopt(mmap_max, 65536)
        libc.mallopt(mmap_threshold, 2**25)
        libc.mallopt(trim_threshold, 2**26)
        libc.malloc_trim(0)


def give_back_memory() -> None:
    "Freed memory goes back to the system, where glibc keeps it: before a fork, or each lane would keep it again."
    if libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
