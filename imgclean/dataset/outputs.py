"""A clean folder: copies or hard links of the images that stay, in the folders of their labels and splits."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath

from .folders import SPLITS, folder_label, folder_split
from .items import Items
from .kept import place_folder, put_file
from .origin import Listed
from .tables import Table

log = logging.getLogger(__name__)


def write_folder(
    items: Items,
    path: str | os.PathLike,  # a folder that is new or empty, outside of the dataset
    link: bool = False,  # hard links: no second copy on the disk; copies where that is impossible
) -> Path:
    """The folder `path` with each image under its name, in the folder of its label where it was in another one.

    `Items.from_folder` reads the same labels, and the splits train, valid and test. It is there in full or not at all.
    Raises `FileExistsError` for a folder that holds anything, and `ValueError` for one inside the dataset and for
    labels that no folder can have.
    """
    target = Path(os.path.abspath(path))
    held = _folder_of(items)
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(held)):
        raise ValueError(f"{str(path)!r} lies inside the dataset {str(held)!r}; give a folder elsewhere")
    if os.path.lexists(target) and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{str(path)!r} is there already; give a folder that is new or empty")
    names = names_by_label(items)
    target.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        copied = [put_file(source, new / name, link) for source, name in zip(items.paths, names, strict=True)]
        new.chmod(0o755)  # mkdtemp's folders are for their owner alone
        place_folder(new, target)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if link and any(copied):
        log.warning("%d of %d images were copied: no hard link can lead there", sum(copied), len(copied))
    return Path(path)


def _folder_of(items: Items) -> Path:
    "Where a clean folder may not be: whoever reads the dataset again would find each image twice."
    if isinstance(items.origin, (Table, Listed)) and len(items):  # the root may hold much else
        return Path(os.path.commonpath([os.path.dirname(os.path.abspath(p)) for p in items.paths]))
    return items.root


def names_by_label(items: Items) -> list[str]:
    "A name for each image, each once, from whose folders `Items.from_folder` reads its label and split."
    taken: set[str] = set()
    return [
        free_name(name_by_label(items.relpath(k), items.labels[k], items.splits[k]), taken)
        for k in range(len(items))
    ]


def free_name(name: str, taken: set[str]) -> str:
    "`name`, with '-2', '-3', … where it is one of those `taken`, to which it is added."
    (stem, ending), n = os.path.splitext(name), 1
    while name.lower() in taken:  # some disks take 'A.jpg' and 'a.jpg' for one name
        n += 1
        name = f"{stem}-{n}{ending}"
    taken.add(name.lower())
    return name


def name_by_label(name: str, label: str | None, split: str | None = None) -> str:
    "`name`, with forward slashes, moved to the folder of `label`; as it is where it lies in that already."
    # Hidden ones, as a table may list, would not be read again.
    *folders, base = (part.lstrip(".") or part for part in PurePosixPath(name).parts)
    if os.path.isabs(name) or ".." in folders:
        folders = []
    if folder_label(folders) != label:
        outer = folders[:-1] if folder_label(folders) is not None else folders
        folders = [*outer, label] if label is not None else folders[:1] if folder_split(folders) else []
    if split in SPLITS.values() and folder_split(folders) != split:
        folders = [split, *folders]
    if (
        folder_label(folders) != label
        or (label is not None and (not label or label.startswith(".")))
        or any("/" in f or "\\" in f or "\0" in f for f in folders)
    ):
        raise ValueError(f"{label!r} can be no folder of images; relabel it, or use cleaned.csv")
    return "/".join([*folders, base])
