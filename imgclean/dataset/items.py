"""What an image set is: paths, labels and splits, in one fixed order. Row k of anything is item k of this."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .defaults import NAME, Defaults
from .folders import folder_label, folder_split, label_from, walk, wanted
from .frames import frame
from .images import image_size
from .learners import Loaders, OwnLoaders, rows_of_dls
from .origin import Listed, Origin, of_source


@dataclass(frozen=True)
class Unreadable:
    "A file that was left out of a dataset, and why"

    path: Path
    error: str


@dataclass(frozen=True)
class Items:
    "The images of a dataset in a fixed order, with a label and a split for each where they are known"

    paths: tuple[Path, ...]
    labels: tuple[str | None, ...]
    splits: tuple[str | None, ...]
    root: Path  # what names in `cleaned.csv` and in reports are relative to
    unreadable: tuple[Unreadable, ...] = field(default=(), repr=False)
    label_delim: str | None = None  # what joins an item's labels where it has several
    # What they came from, and the row of each in it; made-up items have neither.
    origin: Origin | None = field(default=None, repr=False, compare=False)
    rows: tuple[int, ...] | None = field(default=None, repr=False, compare=False)
    notes: tuple[str, ...] = field(default=(), repr=False, compare=False)  # what a user should know of them

    def __post_init__(self):
        n = len(self.paths), len(self.labels), len(self.splits)
        if len(set(n)) != 1:
            raise ValueError(f"paths, labels and splits have {n} entries; give one of each for every image")

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        bad = f", {len(self.unreadable)} unreadable" if self.unreadable else ""
        return f"Items({len(self)} images, {len(self.vocab)} labels{bad}, root={str(self.root)!r})"

    @property
    def vocab(self) -> tuple[str, ...]:
        "The distinct labels, sorted."
        return tuple(sorted({label for label in self.labels if label is not None}))

    def key(self) -> bytes:
        "Digest of the paths in their order: tells whether an index means the same image in two `Items`."
        return key_of(self.paths)

    def relpath(self, k: int) -> str:
        "Path of item `k` relative to `root`, with forward slashes."
        return relative_to(self.paths[k], self.root)

    def size(self, k: int) -> tuple[int, int]:
        "Width and height of item `k` in pixels; (0, 0) where the header cannot be read."
        try:
            return image_size(self.paths[k])
        except OSError:
            return (0, 0)

    def n_bytes(self, k: int) -> int:
        "Size of item `k`'s file in bytes; 0 where it is gone."
        try:
            return self.paths[k].stat().st_size
        except OSError:
            return 0

    def subset(self, ks: Sequence[int]) -> Items:
        "The items `ks`, in that order."
        return replace(
            self,
            paths=tuple(self.paths[k] for k in ks),
            labels=tuple(self.labels[k] for k in ks),
            splits=tuple(self.splits[k] for k in ks),
            rows=self.rows and tuple(self.rows[k] for k in ks),
        )

    def without(self, errors: dict[int, str]) -> Items:  # item -> why it cannot be read
        "The items that are not in `errors`; those are added to `unreadable`."
        bad = tuple(Unreadable(self.paths[k], errors[k]) for k in sorted(errors))
        kept = self.subset([k for k in range(len(self)) if k not in errors])
        return replace(kept, unreadable=self.unreadable + bad)

    def df(self):
        "A DataFrame with the columns `name` (relative to `root`), `label` and `split`."
        names = map(self.relpath, range(len(self)))
        return frame(zip(names, self.labels, self.splits, strict=True), ("name", "label", "split"))

    def as_source(self) -> Any:
        """These images, with their labels, as the type that `read_source` was given, see docs/datasets.md.

        `df()` where that was a folder or an archive. Raises `ValueError` for labels that the type cannot hold.
        """
        return self.df() if self.origin is None else self.origin.rebuild(self)

    def dropped(self) -> list[int]:
        "Rows of the source whose images are not among these, sorted: left out, excluded or unreadable."
        if self.origin is None:
            raise ValueError(
                "these Items come from no source; get them from read_source or Items.from_folder"
            )
        return sorted(set(range(len(self.origin.labels))).difference(self.rows))

    def to_folder(self, path: str | os.PathLike, link: bool = False) -> Path:
        "The new folder `path` with copies of the files, hard links if `link`, see `outputs.write_folder`."
        from .outputs import write_folder

        return write_folder(self, path, link)

    def to_archive(self, path: str | os.PathLike) -> Path:
        "A new tar or zip, or a folder of shards, with the members that stay, see `repack.write_archive`."
        from .repack import write_archive

        return write_archive(self, path)

    def dataloaders(
        self,
        valid_pct: float = 0.2,  # used where the items name no validation set
        seed: int | None = 42,
        item_tfms=None,  # default: `Resize(224)`
        **kwargs,  # passed on to fastai's `ImageDataLoaders.from_df`
    ):
        """fastai `DataLoaders` of the labelled images, split as before, else at random; a test set is left out.

        Raises `ValueError` where images have no label.
        """
        # Imported here alone: a review must open on a machine that has neither torch nor fastai.
        from fastai.vision.all import ImageDataLoaders, Resize

        df = self.df()
        df = df[df.split != "test"]
        if df.label.isna().any():
            n = int(df.label.isna().sum())
            raise ValueError(
                f"{n} of {len(df)} images have no label; give labels, or build a DataBlock on `.paths`"
            )
        if (df.split == "valid").any():
            df = df.assign(is_valid=df.split == "valid")
            kwargs = dict(valid_col="is_valid") | kwargs
        tfms = Resize(224) if item_tfms is None else item_tfms
        # A small dataset must not be smaller than one batch, which fastai would drop.
        n_train = len(df) - (int(df.is_valid.sum()) if "is_valid" in df else int(valid_pct * len(df)))
        kwargs = dict(bs=max(1, min(64, n_train)), label_delim=self.label_delim) | kwargs
        return ImageDataLoaders.from_df(
            df, path=self.root, valid_pct=valid_pct, seed=seed, item_tfms=tfms, **kwargs
        )

    @classmethod
    def from_folder(
        cls,
        root: str | os.PathLike,
        label_func: Callable[[Path], object]
        | str
        | re.Pattern
        | None = None,  # or a regular expression with one group; default: the name of the parent folder, unless a split
        *,
        include: str | Iterable[str] = (),  # patterns of names, see `folders.wanted`; none: everything
        exclude: str | Iterable[str] = (),
    ) -> Items:
        """Every image below `root`, sorted by path; symlinked folders are followed once, hidden names are skipped.

        A top folder called train, valid or test gives the split. `root/imgclean.toml` holds where an argument is not
        given. Raises `NotADirectoryError`, and `ValueError` where no file has an image's ending.
        """
        root = Path(root)
        if not root.is_dir():
            what = "is a file" if root.is_file() else "does not exist"
            raise NotADirectoryError(f"{str(root)!r} {what}; give a folder of images")
        os.listdir(root)  # raises where the folder may not be read
        defaults = Defaults.of(root)
        fits = wanted(include or defaults.include, exclude or defaults.exclude)
        noted: list[Unreadable] = []
        paths = sorted(walk(root, lambda path, error: noted.append(Unreadable(path, error))))
        # What is in a folder that cannot be listed may fit `include`, whatever the folder is called.
        stays = wanted((), exclude or defaults.exclude)
        names = relative_names(paths, root)
        kept = [(path, name) for path, name in zip(paths, names, strict=True) if fits(name)]
        unreadable = tuple(
            bad for bad in noted if (stays if bad.path.is_dir() else fits)(relative_to(bad.path, root))
        )
        if not kept and not unreadable:
            raise ValueError(_no_images(root, len(paths)))
        folders = [name.split("/")[:-1] for _, name in kept]
        if label_func or defaults.label:
            label = label_from(label_func or defaults.label, root)
            labels = tuple(label(path) for path, _ in kept)
        else:
            labels = tuple(map(folder_label, folders))
        found = cls(
            tuple(path for path, _ in kept), labels, tuple(map(folder_split, folders)), root, unreadable
        )
        return of_source(found, Origin(root, labels))

    @classmethod
    def from_paths(cls, paths: Iterable[str | os.PathLike]) -> Items:
        "The images in `paths`, in that order, without labels; their root is the deepest folder that holds all."
        source = list(paths)
        paths = tuple(map(Path, source))
        if not paths:
            raise ValueError("the list of paths is empty; give the files of the images")
        unknown = (None,) * len(paths)
        folder = os.path.commonpath([os.path.dirname(os.path.abspath(p)) for p in paths])
        return of_source(cls(paths, unknown, unknown, Path(folder)), Listed(source, unknown))

    @classmethod
    def from_dls(
        cls,
        dls,  # fastai `DataLoaders` whose images come from files
        root: str | os.PathLike | None = None,  # default: `dls.path` if all images are below it
    ) -> Items:
        """Every image of every split of `dls`, training set first, in the order of its datasets.

        DataLoaders that imgclean made from `Items` give back those.
        """
        if "imgclean_items" in vars(dls):
            own: Items = dls.imgclean_items
            return of_source(own, OwnLoaders(dls, own.labels, own.paths))
        paths, labels, splits, delim = rows_of_dls(dls)
        root = root_of(paths, root or dls.path)
        items = cls(tuple(paths), tuple(labels), tuple(splits), root, label_delim=delim)
        return of_source(items, Loaders(dls, items.labels))


def _no_images(root: Path, n_excluded: int) -> str:
    if n_excluded:
        return f"none of the {n_excluded} images in {str(root)!r} fits include and exclude; see there and in its {NAME}"
    return f"no images in {str(root)!r} (looked for .jpg, .png and Pillow's other endings)"


def key_of(paths: Iterable[str | os.PathLike]) -> bytes:
    "Digest of paths in their order, see `Items.key`."
    return hashlib.blake2b(b"\0".join(map(os.fsencode, paths)), digest_size=16).digest()


def relative_to(path: Path, root: Path) -> str:
    "`path` seen from `root`, with forward slashes; symlinks are not resolved."
    return relative_names([path], root)[0]


def relative_names(paths: Iterable[Path], root: Path) -> list[str]:
    "`paths` seen from `root`, with forward slashes; symlinks are not resolved."
    top = os.path.abspath(root)
    start = os.path.join(top, "")
    names = []
    for path in map(os.path.abspath, paths):
        # What lies below, as nearly all does, needs no `relpath`, which is slow.
        name = path[len(start) :] if path.startswith(start) else os.path.relpath(path, top)
        names.append(name.replace(os.sep, "/"))
    return names


def root_of(paths: Sequence[Path], wanted: str | os.PathLike) -> Path:
    "`wanted` if it holds all `paths`, else the deepest folder that does."
    folders = {os.path.dirname(os.path.abspath(p)) for p in paths}
    top = os.path.abspath(wanted)
    if all(os.path.commonpath([f, top]) == top for f in folders):
        return Path(wanted)
    return Path(os.path.commonpath(folders))
