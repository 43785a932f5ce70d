"""`read_source`: `Items` from whatever holds images, so that every door takes the same things."""

from __future__ import annotations

import copy
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from .archives import is_archive, items_of_archives
from .folders import label_from, split_name, wanted
from .hub import is_hub, items_of_hub
from .items import Items, root_of
from .kept import Contents, kept_folder, kept_root, put_file
from .learners import items_of_datasets
from .origin import Listed, Origin, Parts, of_source
from .outputs import free_name
from .tables import ENDINGS, items_of_table, texts
from .vision import is_map_style, items_of_map_style

KINDS = (
    "the folder of the images, a csv or parquet file, an archive, a fastai Learner, DataLoaders or Datasets, Items, "
    "a DataFrame, a torchvision or Hugging Face dataset, a dict of these, or a list of paths or PIL images"
)


def read_source(
    source: Any,  # one of `KINDS`
    *,
    root: str | os.PathLike | None = None,  # what the names in a table or list are relative to
    labels: str
    | re.Pattern
    | Callable[[Path], object]
    | Sequence[str | None]
    | None = None,  # regular expression with one group, function of the path, or one label for each image
    include: str | Iterable[str] = (),  # patterns of names relative to the root, see `folders.wanted`
    exclude: str | Iterable[str] = (),
    columns: Mapping[str, str] | None = None,  # "name", "label", "split" -> column of a table
    folder: str | os.PathLike | None = None,  # for images that are no files; default: one in the user's cache
) -> Items:
    """The images of `source`, which stays as it is; `.as_source()` of these, or of what remains of them, is its type again.

    Raises `TypeError` for what holds no images, and `ValueError` where it holds none.
    """
    if _is_folder(source) and (labels is None or _tells_labels(labels)):
        return Items.from_folder(source, labels, include=include, exclude=exclude)
    if isinstance(source, Mapping) and not is_hub(source):
        rest = dict(root=root, labels=labels, include=include, exclude=exclude, columns=columns)
        return _items_of_parts(source, folder, rest)
    items = _read(source, root, columns, folder)
    if labels is not None:
        items = _labelled(items, labels)
    if include or exclude:
        fits = wanted(include, exclude)
        items = items.subset([k for k in range(len(items)) if fits(items.relpath(k))])
    return items


def _is_folder(source: Any) -> bool:
    if not isinstance(source, (str, os.PathLike)):
        return False
    return os.path.isdir(source) or not (is_archive(source) or _is_table(source))


def _is_table(source: Any) -> bool:
    return os.fspath(source).lower().endswith(ENDINGS)


def _read(source: Any, root, columns, folder) -> Items:
    if isinstance(source, Items):
        return source
    if isinstance(source, (str, os.PathLike)):
        if _is_folder(source):
            return Items.from_folder(source)
        if is_archive(source):
            return items_of_archives(source, folder)
        return items_of_table(source, root, columns)
    if is_hub(source):
        return items_of_hub(source, folder, columns)
    if hasattr(source, "iloc") and hasattr(source, "columns"):
        return items_of_table(source, root, columns)
    dls = getattr(source, "dls", source)
    if hasattr(dls, "loaders"):
        return Items.from_dls(dls, root)
    if hasattr(source, "tls"):
        return items_of_datasets(source, root)
    if isinstance(source, (bytes, Image.Image)):
        raise TypeError(f"got a {type(source).__name__}; give {KINDS}")
    if hasattr(type(source), "__iter__") and not hasattr(source, "features"):
        return _items_of_list(list(source), root, folder)
    if is_map_style(source):
        return items_of_map_style(source, folder)
    raise TypeError(f"got a {type(source).__name__}; give {KINDS}")


def _items_of_list(source: list, root: str | os.PathLike | None, folder) -> Items:
    if source and all(isinstance(image, Image.Image) for image in source):
        for k, image in enumerate(source):
            _load(image, k)
        paths = tuple(Contents(lambda: source).write(folder))
        unknown = (None,) * len(paths)
        return of_source(Items(paths, unknown, unknown, paths[0].parent), Listed(source, unknown))
    wrong = next((x for x in source if not isinstance(x, (str, os.PathLike))), None)
    if wrong is not None:
        raise TypeError(f"the list holds a {type(wrong).__name__}; give paths alone, or PIL images alone")
    if source and all(map(is_archive, source)):
        return items_of_archives(source, folder)
    if root is None:
        return Items.from_paths(source)
    items = Items.from_paths(Path(root, path) for path in source)
    return replace(items, root=root_of(items.paths, root), origin=Listed(source, items.labels))


def _load(image: Image.Image, k: int) -> None:
    try:
        image.load()
    except Exception as err:  # Pillow's plugins raise nearly every class of exception on broken files
        name = getattr(image, "filename", "")
        raise ValueError(
            f"image {k} of the list {f'({name}) ' if name else ''}cannot be read: {err}; leave it out, or give the paths"
        ) from err


def _items_of_parts(source: Mapping, folder: str | os.PathLike | None, rest: dict) -> Items:
    "Every image of each part, with its key as its split."
    if not source:
        raise ValueError("the dict is empty; give {'train': …, 'valid': …}")
    parts = {}
    for name, part in source.items():
        own = None if folder is None else Path(folder, str(name))
        items = read_source(part, folder=own, **rest)
        if items.origin is None:
            items = of_source(items, Origin(part, items.labels))
        parts[name] = replace(items, splits=(split_name(str(name)),) * len(items))
    if all(kept_root() in items.root.parents for items in parts.values()):
        parts = _side_by_side(parts)
    paths = tuple(path for items in parts.values() for path in items.paths)
    if all(map(_is_folder, source.values())) and len(set(map(os.path.realpath, paths))) < len(paths):
        raise ValueError(
            f"the folders {', '.join(map(str, source.values()))} share files; give folders that lie apart"
        )
    items = Items(
        paths,
        tuple(label for items in parts.values() for label in items.labels),
        tuple(split for items in parts.values() for split in items.splits),
        root_of(paths, next(iter(parts.values())).root),
        tuple(bad for items in parts.values() for bad in items.unreadable),
        next((items.label_delim for items in parts.values() if items.label_delim), None),
    )
    return _of_parts(items, source, parts)


def _of_parts(items: Items, source: Mapping, parts: dict[str, Items]) -> Items:
    "`items` with their rows: those of the first part come first, whether or not they are among the items."
    rows, start = [], 0
    for part in parts.values():
        rows += [start + row for row in part.rows]
        start += len(part.origin.labels)
    return replace(items, origin=Parts(source, parts), rows=tuple(rows))


def _side_by_side(parts: dict[str, Items]) -> dict[str, Items]:
    "Parts of which each has a folder by content, in one: their decisions have one place, and no two share a file."
    taken: set[str] = set()
    names = [free_name(str(key) if re.fullmatch(r"[\w-]+", str(key)) else "part", taken) for key in parts]
    by_content = kept_root()
    files = [[path.relative_to(by_content).as_posix() for path in part.paths] for part in parts.values()]
    text = repr(list(zip(names, files, strict=True)))
    moved = {
        key: {path: Path(name, path.relative_to(part.root)) for path in part.paths}
        for name, (key, part) in zip(names, parts.items(), strict=True)
    }

    def fill(new: Path) -> None:
        for files in moved.values():
            for path, place in files.items():
                put_file(path, new / place)

    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    top = kept_folder(digest, fill, names=[place for files in moved.values() for place in files.values()])
    return {
        key: replace(part, paths=tuple(top / moved[key][path] for path in part.paths), root=top / name)
        for name, (key, part) in zip(names, parts.items(), strict=True)
    }


def _tells_labels(labels: Any) -> bool:
    "Whether `labels` is a rule, and not one label for each image."
    return isinstance(labels, (str, re.Pattern)) or callable(labels)


def _labelled(items: Items, labels) -> Items:
    "`items` with other labels, which count as those of the source."
    if _tells_labels(labels):
        label = label_from(labels, items.root)
        given = tuple(map(label, items.paths))
    else:
        given = tuple(texts(labels))
    if len(given) != len(items):
        raise ValueError(f"there are {len(given)} labels for {len(items)} images; give one for each image")
    if items.origin is None:
        return replace(items, labels=given)
    origin = copy.copy(items.origin)
    origin.labels = given
    return replace(items, labels=given, origin=origin)
