"""The files, labels and splits in fastai's DataLoaders, and fewer of them back. Knows fastai's objects by what they have."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .origin import Origin, of_source, rows_of

if TYPE_CHECKING:
    from .items import Items

SPLIT_OF = ("train", "valid", "test")  # by the place of a DataLoader


class Loaders(Origin):
    "fastai `DataLoaders`, also those of a Learner"

    def rebuild(self, items: Items) -> Any:
        "DataLoaders of the same transforms on the rows that stay; a dataset smaller than a batch is one batch."
        dls, kept, changed = self.source, set(rows_of(items)), self.relabeled(items)
        loaders = []
        for dl, rows in zip(dls.loaders, self._rows(), strict=False):
            ks = [k for k, row in enumerate(rows) if row in kept]
            labels = {k: changed[rows[k]] for k in ks if rows[k] in changed}
            size = {"bs": max(1, min(dl.bs, len(ks)))} if dl.bs else {}
            loaders.append(dl.new(_part_of(dl.dataset, ks, labels), **size))
        return type(dls)(*loaders, *dls.loaders[len(SPLIT_OF) :], path=dls.path, device=dls.device)

    def _rows(self) -> Iterator[Sequence[int]]:
        "The rows of each DataLoader's items."
        start = 0
        for dl in self.source.loaders[: len(SPLIT_OF)]:
            yield range(start, start := start + len(dl.dataset))


class Parted(Origin):
    "fastai `Datasets`, with their splits"

    def rebuild(self, items: Items) -> Any:
        "Datasets of the rows that stay, in the same splits."
        ds, rows = self.source, list(rows_of(items))
        at = {row: k for k, row in enumerate(rows)}
        splits = [[at[row] for row in map(int, split) if row in at] for split in ds.splits]
        part = _part_of(ds, rows, self.relabeled(items))
        for tl in part.tls:
            tl.splits = type(ds.splits)(splits).map(type(ds.splits))
        return part


def items_of_datasets(ds, root: str | os.PathLike | None = None) -> Items:
    "The images of fastai `Datasets` in the order of its items, with its splits."
    from .items import Items, root_of

    paths, (labels, several) = ds_paths(ds), _ds_labels(ds)
    if not paths:
        raise ValueError("the Datasets hold no images; build them from a folder, a csv or a list of files")
    splits: list[str | None] = [None] * len(paths)
    if sum(len(split) > 0 for split in ds.splits) > 1:
        for name, split in zip(SPLIT_OF, ds.splits, strict=False):
            for row in split:
                splits[int(row)] = name
    top = root_of(paths, root or os.path.commonpath([p.parent for p in map(Path.absolute, paths)]))
    items = Items(tuple(paths), tuple(labels), tuple(splits), top, label_delim=";" if several else None)
    return of_source(items, Parted(ds, items.labels))


class OwnLoaders(Loaders):
    "`DataLoaders` that imgclean made of items, in an order of their own"

    def __init__(self, source: Any, labels: tuple[str | None, ...], paths: tuple[Path, ...]):
        super().__init__(source, labels)
        self.paths = paths  # of the rows

    def _rows(self) -> Iterator[Sequence[int]]:
        row_of = {path: row for row, path in enumerate(self.paths)}
        for dl in self.source.loaders[: len(SPLIT_OF)]:
            yield [row_of[path] for path in ds_paths(dl.dataset)]


def _part_of(ds, ks: Sequence[int], labels: dict[int, str]):
    "The items `ks` of a fastai `Datasets`, some with new labels."
    tls = [tl._new(tl._get(ks)) for tl in ds.tls]
    if labels:
        tls[ds.n_inp] = _relabelled(ds.tls[ds.n_inp], ks, labels)
    return type(ds)(tls=tls, n_inp=ds.n_inp)


def _relabelled(tl, ks: Sequence[int], labels: dict[int, str]):
    "A `TfmdLists` that starts from the names of the classes: what led from an item to its old name is left out."
    tfms = tl.tfms.fs
    stage = next((k for k, tfm in enumerate(tfms) if hasattr(tfm, "vocab")), None)
    if stage is None:
        raise ValueError("the DataLoaders have no classes to give new labels from; use .dataloaders()")
    names = []
    for k in ks:
        name = tl.decode(tl[k])
        several = not isinstance(name, str)
        if k in labels:
            name = labels[k].split(";") if several else labels[k]
        names.append(name)
        unknown = set(name if several else [name]).difference(tfms[stage].vocab)
        if unknown:
            raise ValueError(
                f"{min(unknown)!r} is none of the DataLoaders' classes {', '.join(tfms[stage].vocab)}; "
                "use .dataloaders(), which makes new ones"
            )
    types = tl.types and tl.types[stage:]
    return type(tl)(names, tfms[stage:], do_setup=False, split_idx=tl.split_idx, types=types)


def rows_of_dls(dls) -> tuple[list[Path], list[str | None], list[str | None], str | None]:
    "Paths, labels and splits of every image of fastai `DataLoaders`, and what joins several labels of one."
    paths, labels, splits, delim = [], [], [], None
    for split, ds in zip(SPLIT_OF, (dl.dataset for dl in dls.loaders), strict=False):
        paths += ds_paths(ds)
        found, several = _ds_labels(ds)
        labels += found
        delim = ";" if several else delim
        splits += [split] * len(ds)
    if not paths:
        raise ValueError("the DataLoaders hold no images; build them from a folder, a csv or a list of files")
    if len(set(splits)) == 1:  # a lone training set is no split
        splits = [None] * len(splits)
    return paths, labels, splits, delim


def source_stage(tl) -> int:
    """How many of the first transforms of a fastai `TfmdLists` lead from its items to the path of a file.

    Names that lead to no file, such as the ids of a table, are followed further.
    """
    value, found = _nth(tl.items, 0), None
    for stage, tfm in enumerate([*tl.tfms.fs, None]):
        if isinstance(value, (str, os.PathLike)):
            found = stage
            if Path(value).is_file():
                return stage
        try:
            value = tfm(value) if tfm else None
        except Exception:  # the reader of the images, on a file that does not exist
            break
    if found is not None:
        return found
    raise ValueError(
        f"the Learner's items are {type(_nth(tl.items, 0)).__name__}, not files; give the folder of the images"
    )


def ds_paths(ds) -> list[Path]:
    "The file of each item of a fastai `Datasets`, in its order; raises `ValueError` where items are no files."
    if not len(ds):
        return []
    tl = image_tfms(ds)
    tfms = tl.tfms.fs[: source_stage(tl)]
    paths = []
    for k in range(len(ds)):
        value = _nth(tl.items, k)
        for tfm in tfms:
            value = tfm(value)
        paths.append(Path(value))
    return paths


def image_tfms(ds):
    "The `TfmdLists` of the images of a fastai `Datasets`."
    tls = getattr(ds, "tls", None)
    if not tls:
        raise ValueError(
            f"expected fastai Datasets of images, got {type(ds).__name__}; give the folder of the images"
        )
    if ds.n_inp != 1:
        raise ValueError(f"the Learner takes {ds.n_inp} inputs an item, imgclean looks at one image an item")
    return tls[0]


def _category(tl, k: int):
    "The name, or names, of item `k`'s category; also of one that no image of the training set has."
    try:
        return tl.decode(tl[k])
    except KeyError:
        value = _nth(tl.items, k)
        for tfm in tl.tfms.fs:
            if hasattr(tfm, "vocab"):
                break
            value = tfm(value)
        return value


def _ds_labels(ds) -> tuple[list[str | None], bool]:
    "The category of each item, several joined by ';', and whether there are several; masks and numbers are none."
    tl = ds.tls[ds.n_inp] if len(ds.tls) > ds.n_inp and len(ds) else None
    first = _category(tl, 0) if tl else None
    if isinstance(first, str):
        return [str(_category(tl, k)) or None for k in range(len(ds))], False
    if hasattr(first, "__iter__") and not hasattr(first, "shape") and not hasattr(first, "getpixel"):
        return [";".join(map(str, _category(tl, k))) or None for k in range(len(ds))], True
    return [None] * len(ds), False


def _nth(items, k: int):
    return getattr(items, "iloc", items)[k]  # a DataFrame is indexed by row
