"""From the output of hooked layers to one vector an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import nn


class Pooled(nn.Module):
    "A model whose hooked layers' outputs are pooled and flattened: from a batch to vectors, (bs, d) float32"

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str],
        pooling: nn.Module,
        dtype: torch.dtype = torch.float32,  # what the model computes in
        layout: torch.memory_format = torch.contiguous_format,  # of the batches: convolutions like channels last
    ):
        super().__init__()
        self.model, self.pooling, self.layers = model, pooling, list(layers)
        self.dtype, self.layout = dtype, layout
        self.outputs: dict[str, object] = {}
        self.hook()

    def hook(self) -> None:
        "Keep what the layers return in each pass."
        self.handles = [
            self.model.get_submodule(name).register_forward_hook(partial(self._keep, name))
            for name in self.layers
        ]

    def _keep(self, name: str, _module, _inputs, output) -> None:
        self.outputs[name] = output

    def unhook(self) -> None:
        "Leave the model without our hooks."
        for handle in self.handles:
            handle.remove()

    def forward(self, xb: torch.Tensor) -> torch.Tensor:
        "One vector an image; of several layers one after the other, each of length 1."
        return torch.cat(self.parts(xb), 1)

    def parts(self, xb: torch.Tensor) -> list[torch.Tensor]:  # each (bs, d of the layer) float32
        "The vectors of each layer."
        self.outputs.clear()
        self.model(xb.to(self.dtype, memory_format=self.layout if xb.ndim == 4 else torch.preserve_format))
        ratio = xb.shape[-2] / xb.shape[-1] if xb.ndim == 4 else 1.0
        vectors = [self._pooled(name, ratio) for name in self.layers]
        self.outputs.clear()
        if len(vectors) > 1:  # else the layer with the largest activations would decide alone
            vectors = [nn.functional.normalize(v, dim=1) for v in vectors]
        return vectors

    def _pooled(self, name: str, ratio: float) -> torch.Tensor:
        out = self.outputs.get(name)
        if not isinstance(out, torch.Tensor):
            raise ValueError(f"layer {name!r} returns {type(out).__name__}, not one tensor; choose another")
        maps = as_maps(out.float(), ratio)
        return (self.pooling(maps) if maps.ndim == 4 else maps).flatten(1)


def as_maps(
    out: torch.Tensor,
    ratio: float = 1.0,  # height to width of the images, which maps share
) -> torch.Tensor:  # (bs, c, h, w), or `out` as it is
    """A layer's output as feature maps, whatever their layout; class and register tokens are dropped.

    Swin and its like put channels last, which the sides tell; tokens of a transformer go back to their places.
    """
    if out.ndim == 4:
        _, a, b, c = out.shape
        last = abs(math.log(a / b / ratio)) < abs(math.log(b / c / ratio))
        return out.permute(0, 3, 1, 2) if last else out
    if out.ndim == 3:  # (bs, tokens, d)
        h, w = _grid(out.shape[1], ratio)
        return out[:, -h * w :].transpose(1, 2).unflatten(2, (h, w))
    return out


def _grid(tokens: int, ratio: float) -> tuple[int, int]:
    "Height and width of the grid that `tokens` make, after a few class or register tokens; a row where none fits."
    for extra in range(min(tokens, 17)):
        h = round(math.sqrt((tokens - extra) * ratio)) or 1
        w, rest = divmod(tokens - extra, h)
        if not rest and abs(h - w * ratio) <= 0.5:
            return h, w
    return 1, tokens


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
