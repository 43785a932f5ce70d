"""The head of a siamese network, trained on what its frozen encoder said of each image once."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import torch
from fastai.vision.all import DataLoaders, Learner, Module, accuracy

from ..features.backbones import evaluating
from .siamese import BATCH, SiameseModel, SiameseTransform, encodings

EPOCH = 20_000  # pairs that an epoch draws


def fit_head(
    learn: Learner,  # of `siamese_learner`
    n_epoch: int = 5,
    lr_max: float = 1e-2,
    *,
    n_pairs: int = EPOCH,  # pairs that an epoch draws
    bs: int = 512,  # pairs
    seed: int = 42,
    **settings,  # `cache`, `num_workers`, `progress` … of `embed`
) -> float:  # share of the validation pairs that are told right
    """Trains the head as `learn.fit_one_cycle` does while the encoder is frozen, but looks at each image once.

    A frozen encoder says the same of an image each time, so pairs are drawn from what it said; there is no augmentation.
    """
    tfm = next(t for t in learn.dls.train_ds.tfms.fs if isinstance(t, SiameseTransform))
    vectors, seen = encodings(learn, learn.dls.imgclean_items, **settings)
    row = {path: k for k, path in enumerate(seen.paths)}
    train = {name: [row[f] for f in files if f in row] for name, files in tfm.train.items()}
    drawn = _Drawn(vectors, {name: ks for name, ks in train.items() if ks}, n_pairs, bs, seed)
    held_out = [
        (row[f], row[other], same) for f, (other, same) in tfm.valid.items() if {f, other} <= row.keys()
    ]
    fixed = _Fixed(vectors, np.array(held_out, dtype=np.int64).reshape(-1, 3))
    loaders = (torch.utils.data.DataLoader(part, batch_size=None) for part in (drawn, fixed))
    head = Learner(
        DataLoaders(*loaders, device=learn.dls.device), _Compare(learn.model), loss_func=learn.loss_func, metrics=accuracy
    )  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(evaluating(learn.model))  # so that each part has its own mode afterwards
        if not settings.get("progress", True):
            for quiet in (head.no_logging(), head.no_bar()):
                stack.enter_context(quiet)
        head.fit_one_cycle(n_epoch, lr_max)
    return float(head.recorder.values[-1][-1])


class _Compare(Module):
    "The head of a siamese model as a model of its own"

    def __init__(self, model: SiameseModel):
        self.head, self._compare = model.head, model.compare

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self._compare(a, b)


class _Drawn(torch.utils.data.Dataset):
    "Row k: a batch of pairs drawn anew, half of them of one class"

    def __init__(self, vectors: np.ndarray, rows: dict[str, list[int]], n_pairs: int, bs: int, seed: int):
        self.vectors, self.bs, self.n = (
            torch.from_numpy(np.array(vectors, np.float32)),
            bs,
            n_pairs // bs or 1,
        )
        self.rows = np.concatenate(list(rows.values()))
        sizes = np.array([len(ks) for ks in rows.values()])
        self.size = np.repeat(sizes, sizes)  # of each row's class, and where that begins
        self.start = np.repeat(np.cumsum(sizes) - sizes, sizes)
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if k >= self.n:
            raise IndexError(k)
        n = len(self.rows)
        a = self.rng.integers(n, size=self.bs)
        size, start = self.size[a], self.start[a]
        same = (self.rng.random(self.bs) < 0.5) & (size > 1)
        draw = self.rng.random(self.bs)
        # Another place of its class; or one of those outside, which begin behind the class and go round.
        within = start + (a - start + 1 + (draw * (size - 1)).astype(int)) % size
        outside = (start + size + (draw * (n - size)).astype(int)) % n
        b = np.where(same, within, outside)
        return self.vectors[self.rows[a]], self.vectors[self.rows[b]], torch.from_numpy(same.astype(np.int64))


class _Fixed(torch.utils.data.Dataset):
    "Row k: a batch of the validation pairs"

    def __init__(self, vectors: np.ndarray, pairs: np.ndarray):  # (n, 3) rows, rows, whether of one class
        self.vectors, self.pairs = torch.from_numpy(np.array(vectors, np.float32)), pairs

    def __len__(self) -> int:
        return -(-len(self.pairs) // BATCH)

    def __getitem__(self, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if k >= len(self):
            raise IndexError(k)
        a, b, same = self.pairs[k * BATCH : (k + 1) * BATCH].T
        return self.vectors[a], self.vectors[b], torch.from_numpy(same)
