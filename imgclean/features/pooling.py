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
        self.channels_last = any(getattr(m, "output_fmt", None) == "NHWC" for m in model.modules())
        self.outputs: dict[str, object] = {}
        self.handles = [
            model.get_submodule(name).register_forward_hook(partial(self._keep, name)) for name in self.layers
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
        vectors = [self._pooled(name) for name in self.layers]
        self.outputs.clear()
        if len(vectors) > 1:  # else the layer with the largest activations would decide alone
            vectors = [nn.functional.normalize(v, dim=1) for v in vectors]
        return vectors

    def _pooled(self, name: str) -> torch.Tensor:
        out = self.outputs.get(name)
        if not isinstance(out, torch.Tensor):
            raise ValueError(f"layer {name!r} returns {type(out).__name__}, not one tensor; choose another")
        maps = as_maps(out.float(), self.channels_last)
        return (self.pooling(maps) if maps.ndim == 4 else maps).flatten(1)


def as_maps(
    out: torch.Tensor, channels_last: bool = False
) -> torch.Tensor:  # (bs, c, h, w), or `out` as it is
    "A layer's output as feature maps: tokens of a transformer go back to their places, class tokens are dropped."
    if out.ndim == 4 and channels_last:
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
