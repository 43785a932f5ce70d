"""What an image set is: paths, labels and splits, in one fixed order. Row k of anything is item k of this."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .frames import frame
from .images import image_extensions, image_size

SPLITS = dict(train="train", training="train", valid="valid", validation="valid", val="valid", test="test")


def split_name(name: str | None) -> str | None:
    "train, valid or test for what people call them; other names as they are."
    return name and SPLITS.get(name.strip().lower(), name.strip())


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
        label_func: Callable[[Path], str | None]
        | None = None,  # default: the name of the parent folder, unless it is a split
    ) -> Items:
        """Every image below `root`, sorted by path; symlinked folders are followed once, hidden names are skipped.

        A top folder called train, valid or test gives the split. Raises `NotADirectoryError`,
        and `ValueError` where no file has an image's ending.
        """
        root = Path(root)
        if not root.is_dir():
            what = "is a file" if root.is_file() else "does not exist"
            raise NotADirectoryError(f"{str(root)!r} {what}; give a folder of images")
        os.listdir(root)  # raises where the folder may not be read
        unreadable: list[Unreadable] = []
        paths = sorted(_walk(root, unreadable))
        if not paths and not unreadable:
            raise ValueError(f"no images in {str(root)!r} (looked for .jpg, .png and Pillow's other endings)")
        label = (
            _words_of(label_func) if label_func else lambda p: _folder_label(p.relative_to(root).parts[:-1])
        )
        splits = tuple(SPLITS.get(p.relative_to(root).parts[0].lower()) for p in paths)
        return cls(tuple(paths), tuple(label(p) for p in paths), splits, root, tuple(unreadable))

    @classmethod
    def from_paths(cls, paths: Iterable[str | os.PathLike]) -> Items:
        "The images in `paths`, in that order, without labels; their root is the deepest folder that holds all."
        paths = tuple(map(Path, paths))
        if not paths:
            raise ValueError("the list of paths is empty; give the files of the images")
        unknown = (None,) * len(paths)
        folder = os.path.commonpath([os.path.dirname(os.path.abspath(p)) for p in paths])
        return cls(paths, unknown, unknown, Path(folder))

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
            return dls.imgclean_items
        paths, labels, splits, delim = [], [], [], None
        for split, ds in zip(("train", "valid", "test"), (dl.dataset for dl in dls.loaders), strict=False):
            paths += ds_paths(ds)
            found, several = _ds_labels(ds)
            labels += found
            delim = ";" if several else delim
            splits += [split] * len(ds)
        if not paths:
            raise ValueError(
                "the DataLoaders hold no images; build them from a folder, a csv or a list of files"
            )
        if len(set(splits)) == 1:  # a lone training set is no split
            splits = [None] * len(splits)
        root = root_of(paths, root or dls.path)
        return cls(tuple(paths), tuple(labels), tuple(splits), root, label_delim=delim)


def key_of(paths: Iterable[str | os.PathLike]) -> bytes:
    "Digest of paths in their order, see `Items.key`."
    return hashlib.blake2b(b"\0".join(map(os.fsencode, paths)), digest_size=16).digest()


def _words_of(label_func: Callable) -> Callable[[Path], str | None]:
    def label(path: Path) -> str | None:
        value = label_func(path)
        return None if value is None else str(value)

    return label


def _folder_label(folders: tuple[str, ...]) -> str | None:
    "The innermost folder's name, unless that is the root or a split."
    named = folders[1:] if folders and folders[0].lower() in SPLITS else folders
    return named[-1] if named else None


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


def _walk(root: Path, unreadable: list[Unreadable]) -> Iterator[Path]:
    "Image files below `root`; folders that cannot be listed are added to `unreadable`."

    def note(err: OSError) -> None:
        unreadable.append(
            Unreadable(Path(err.filename), f"the folder cannot be listed: {err.strerror.lower()}")
        )

    endings, seen, starts = image_extensions(), set(), [os.fspath(root)]
    while starts:
        for folder, folders, files in os.walk(starts.pop(0), onerror=note):
            # A folder that two names lead to is one folder: link loops end, nothing duplicates itself.
            # Links wait until all real folders are seen, so that an image keeps its real name.
            here = os.stat(folder)
            if (here.st_dev, here.st_ino) in seen:
                folders.clear()
                continue
            seen.add((here.st_dev, here.st_ino))
            folders[:] = sorted(d for d in folders if not d.startswith("."))
            starts += [link for d in folders if os.path.islink(link := os.path.join(folder, d))]
            for name in files:
                if name.startswith(".") or os.path.splitext(name)[1].lower() not in endings:
                    continue
                path = Path(folder, name)
                if _is_special(path):  # opening a pipe would wait for ever
                    unreadable.append(Unreadable(path, "not a regular file"))
                else:
                    yield path


def _is_special(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:  # a broken link: whoever opens it says so
        return False


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


def _ds_labels(ds) -> tuple[list[str | None], bool]:
    "The category of each item, several joined by ';', and whether there are several; masks and numbers are none."
    tl = ds.tls[ds.n_inp] if len(ds.tls) > ds.n_inp and len(ds) else None
    first = tl.decode(tl[0]) if tl else None
    if isinstance(first, str):
        return [str(tl.decode(tl[k])) or None for k in range(len(ds))], False
    if hasattr(first, "__iter__") and not hasattr(first, "shape") and not hasattr(first, "getpixel"):
        return [";".join(map(str, tl.decode(tl[k]))) or None for k in range(len(ds))], True
    return [None] * len(ds), False


def _nth(items, k: int):
    return getattr(items, "iloc", items)[k]  # a DataFrame is indexed by row
