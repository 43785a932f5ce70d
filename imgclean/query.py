"""Query by image: an index of a folder's images, and those of them that are most like a file, a URL or a picture."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import PIL
import torch
from fastai.layers import AdaptiveConcatPool2d
from fastai.vision.all import Learner
from PIL import Image
from torch import nn

from .dataset.cleaned import fingerprint, is_unchanged
from .dataset.fetch import as_file
from .dataset.images import UnreadableImage, open_image
from .dataset.items import Items
from .dataset.sources import read_source
from .dataset.stored import load_arrays, refuse_mismatch, save_arrays
from .features.activations import Embeddings, embed
from .features.backbones import PACKAGED, default_learner
from .features.pooling import GeM
from .find.lsh import ARRAYS, LSHIndex
from .find.similarity import nearest, normalise
from .formatter import arch_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = "image index"
POOLS = {"AdaptiveConcatPool2d": AdaptiveConcatPool2d, "GeM": GeM, None: None}


@dataclass(eq=False)
class Index:
    "Embeddings of images with their paths and with what made them: what `find_similar` searches"

    vectors: np.ndarray  # (n, d) float32, rows of length 1
    names: tuple[str, ...]  # paths relative to `root`, with forward slashes; row k is names[k]
    root: Path
    files: list[list]  # `fingerprint` of each file: what tells whether it has changed since
    settings: dict  # arch, layer, pool, pool_dim, precision, versions and fingerprint of what looked
    lsh: LSHIndex | None = None  # None: each search is exact
    _learn: Learner | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        how = repr(self.lsh) if self.lsh is not None else "exact"
        return f"Index({len(self)} images, {self.settings['arch']}, {how}, root={str(self.root)!r})"

    def search(self, vec: np.ndarray, n: int = 5) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the `n` images most like `vec` (d,), int64, and their cosines, float32, most similar first.

        Fewer where there are fewer. Raises `ValueError` for an empty index, n < 1, zeros, NaN and infinity, and
        a `vec` of another length.
        """
        if n < 1:
            raise ValueError(f"n is {n}; ask for at least one image")
        if not len(self):
            raise ValueError("the index is empty; build it from a folder that holds images")
        vec = np.asarray(vec)
        if vec.shape != self.vectors.shape[1:]:
            raise ValueError(
                f"the query has shape {vec.shape}, the index holds vectors of {self.vectors.shape[1]}; "
                "embed the query with the model, layer and pooling of the index"
            )
        if self.lsh is not None:
            return self.lsh.search(vec, n)
        if not np.any(normalise(vec[None]).numpy()):
            raise ValueError("the query is all zeros, which resembles nothing; check the model that made it")
        rows, score = (found[0] for found in nearest(vec[None], min(n, len(self)), others=self.vectors))
        order = np.lexsort((rows, -score))
        order = order[rows[order] >= 0]  # rows of zeros are nobody's neighbours
        return rows[order], score[order]

    def save(self, path: str | os.PathLike) -> None:
        "Write the index to one file, whole or not at all."
        about = {
            "root": os.path.abspath(self.root),
            "names": self.names,
            "files": self.files,
            "settings": self.settings,
            "lsh": None if self.lsh is None else self.lsh.settings,
        }
        lsh = {} if self.lsh is None else {f"lsh_{name}": x for name, x in self.lsh.arrays().items()}
        lsh.pop("lsh_vectors", None)  # the same numbers as ours
        save_arrays(path, KIND, about, {"vectors": self.vectors} | lsh)

    @classmethod
    def load(cls, path: str | os.PathLike, root: str | os.PathLike | None = None) -> Index:
        """The index that `save` wrote; `root` is where its images are now, if they were moved.

        Raises `ValueError` for a damaged or foreign file.
        """
        about, arrays = load_arrays(path, KIND)
        lsh = None
        if about["lsh"]:
            arrays["lsh_vectors"] = arrays["vectors"]
            lsh = LSHIndex.from_arrays(about["lsh"], {name: arrays[f"lsh_{name}"] for name in ARRAYS})
        names, root = tuple(about["names"]), Path(root or about["root"])
        return cls(arrays["vectors"], names, root, about["files"], about["settings"], lsh)


class Similar(NamedTuple):
    "An image and its cosine similarity to the query"

    path: Path
    similarity: float


class Similars(list):
    "`Similar` images, most similar first; the last line of a cell shows them beside the `query`"

    def __init__(self, found, query: Image.Image):
        super().__init__(found)
        self.query = query

    def plot(self, columns: int = 5) -> Figure:
        "A matplotlib figure: the query in the first row, what is like it below."
        from matplotlib.figure import Figure  # without pyplot: no window, nothing to close

        columns = max(1, min(columns, len(self)))
        rows = 1 + -(-len(self) // columns)
        fig = Figure(figsize=(2.4 * columns, 2.6 * rows), layout="constrained")
        axes = fig.subplots(rows, columns, squeeze=False)
        for ax in axes.flat:
            ax.set_axis_off()
        axes[0, 0].imshow(self.query)
        axes[0, 0].set_title("query", fontsize="small")
        for ax, (path, similarity) in zip(axes[1:].flat, self, strict=False):
            _draw(ax, path)
            ax.set_title(f"{similarity:.3f}\n{path.name[-28:]}", fontsize="small", parse_math=False)
        return fig

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.plot().savefig(data, format="png", dpi=80)
        return data.getvalue()


def _draw(ax, path: Path) -> None:
    try:
        image = open_image(path, 256)
        image.thumbnail((512, 512))
        ax.imshow(image)
    except UnreadableImage as err:
        ax.text(0.5, 0.5, str(err), ha="center", va="center", wrap=True, fontsize="x-small")


def build_index(
    source: str
    | os.PathLike
    | Items
    | Learner,  # or whatever else `read_source` takes; a Learner looks itself
    out: str | os.PathLike | None = None,  # file to write; one that is there is brought up to date
    layer: nn.Module | str | list | None = None,  # see `embed`
    pool: Callable[[int], nn.Module] | None = AdaptiveConcatPool2d,  # or GeM, or None
    pool_dim: int = 1,
    *,
    arch: str | None = None,  # model that looks where `source` is no Learner
    lsh: LSHIndex | None = None,  # an empty one, such as `LSHIndex(10, 5)`: search by it in place of exactly
    bs: int = 64,
    num_workers: int | None = None,
    progress: bool = True,
    cache: bool | str | os.PathLike = True,
) -> Index:
    """An `Index` of the readable images of `source`.

    Of an index in `out`, the vectors of files that have not changed are taken over, files that are gone are left
    out, and only new and changed ones are looked at. Raises `ValueError` where `out` is no index, or one by
    another model, layer or pooling.
    Source: "Finding similar images using deep learning and locality sensitive hashing", towardsdatascience.com.
    """
    if getattr(pool, "__name__", None) not in POOLS:
        raise ValueError(f"pool is {pool!r}; an index is made with AdaptiveConcatPool2d, GeM or None")
    if lsh is not None and len(lsh):
        raise ValueError(f"lsh holds {len(lsh)} rows already; give an empty LSHIndex")
    items, learn = _source(source, arch)
    old = Index.load(out) if out is not None and os.path.exists(out) else None
    same = {} if old is None else _unchanged(old, items)

    def look(ks: list[int], precision: str | None) -> Embeddings:
        return embed(
            learn, items.subset(ks), layer, pool, pool_dim, precision=precision, bs=bs, num_workers=num_workers,
            progress=progress, cache=cache,
        )  # fmt: skip

    # With one of the known images: its fingerprint tells whether the known vectors come from the same model.
    todo = [k for k in range(len(items)) if k not in same]
    seen = look(sorted([*todo, *list(same)[:1]]), None if old is None else old.settings["precision"])
    settings = _settings(learn, seen, pool, pool_dim)
    if old is not None and len(seen.items):
        refuse_mismatch(out, old.settings, settings)
        if seen.fingerprint is None and same:  # it cannot be told
            same, seen = {}, look(list(range(len(items))), old.settings["precision"])
    index = _assembled(items, seen, settings, old, same)
    if lsh is None and old is not None and old.lsh is not None:
        lsh = LSHIndex(**old.lsh.settings)
    if lsh is not None:
        index.lsh = lsh
        index.lsh.add(index.vectors)
        index.lsh.vectors = index.vectors  # once in memory
    index._learn = learn
    if out is not None:
        index.save(out)
    return index


def find_similar(
    image: str | os.PathLike | Image.Image,  # file, http or https URL, or a picture
    index: Index | str | os.PathLike,  # or the file of one
    n: int = 5,
    *,
    learn: Learner | None = None,  # the Learner that made the index, where it was not `arch`
    allow_private: bool = False,  # URLs of this machine and its own network as well
) -> Similars:
    """The `n` images of `index` most like `image`, as `Similar(path, similarity)`, most similar first.

    Shown as pictures at the end of a notebook's cell, and by `.plot()`. Raises `ValueError` where model, layer
    or pooling are not those of the index, and `OSError` for what is no image.
    """
    name = "the index"
    if not isinstance(index, Index):
        name, index = index, Index.load(index)
    if n < 1:
        raise ValueError(f"n is {n}; ask for at least one image")
    with as_file(image, allow_private) as path:
        query = _query_image(image, path)
        vec = _embed_query(path, index, learn, name)
    rows, scores = index.search(vec, n)
    query.thumbnail((512, 512))
    return Similars(
        [Similar(index.root / index.names[k], float(s)) for k, s in zip(rows, scores, strict=True)], query
    )


def _query_image(given: str | os.PathLike | Image.Image, path: Path) -> Image.Image:
    try:
        return open_image(path)
    except UnreadableImage as err:
        name = "the picture" if isinstance(given, Image.Image) else repr(os.fspath(given))
        raise UnreadableImage(f"{name} cannot be looked for: {err}") from err


def _embed_query(
    path: Path, index: Index, learn: Learner | None, name: str | os.PathLike
) -> np.ndarray:  # (d,)
    "The vector of one image, by what made the index."
    was = index.settings
    item = Items((path,), (None,), (None,), path.parent)
    if learn is None and was["learner"] != "default":
        learn = index._learn
        if learn is None:
            raise ValueError(
                f"{os.fspath(name)!r} was made with a Learner of your own ({was['arch']}); give it as learn="
            )
    if learn is None:
        learn = index._learn = index._learn or _headless(default_learner(item, was["arch"]))
    pool, layer = POOLS[was["pool"]], was["layer"].split(" + ")
    seen = embed(
        learn, item, layer, pool, was["pool_dim"] or 1, precision=was["precision"], bs=1, progress=False
    )
    refuse_mismatch(name, was, _settings(learn, seen, pool, was["pool_dim"]))
    return seen.vectors[0]


def _source(source, arch: str | None) -> tuple[Items, Learner]:
    if isinstance(source, Learner):
        if arch:
            raise ValueError(f"arch is {arch!r}, but a Learner brings its own model; give one of them")
        return read_source(source), source
    items = read_source(source)
    return items, _headless(default_learner(items, arch or PACKAGED))


def _headless(learn: Learner) -> Learner:
    "A `default_learner` without its untrained head: that is another one each time, and so would the fingerprint be."
    learn.model = nn.Sequential(learn.model[0])
    learn.imgclean_headless = True
    return learn


def _settings(learn: Learner, seen: Embeddings, pool, pool_dim: int | None) -> dict:
    return {
        "learner": "default" if getattr(learn, "imgclean_headless", False) else "own",
        "arch": arch_name(learn),
        "layer": seen.layer,
        "pool": getattr(pool, "__name__", None),
        "pool_dim": pool_dim if pool else None,
        "precision": seen.precision,
        "torch": torch.__version__,
        "pillow": PIL.__version__,
        "fingerprint": seen.fingerprint and seen.fingerprint.hex(),
    }


def _unchanged(old: Index, items: Items) -> dict[int, int]:  # item -> row of the old index
    row = {name: k for k, name in enumerate(old.names)}
    return {
        k: row[name]
        for k in range(len(items))
        if (name := items.relpath(k)) in row and is_unchanged(items.paths[k], old.files[row[name]])
    }


def _assembled(items: Items, seen: Embeddings, settings: dict, old: Index | None, same: dict) -> Index:
    "Old and new vectors in the order of the items."
    new = normalise(seen.vectors).numpy()
    at = {path: k for k, path in enumerate(seen.items.paths)}
    d = new.shape[1] if len(new) else (0 if old is None else old.vectors.shape[1])
    kept = [k for k in range(len(items)) if k in same or items.paths[k] in at]
    vectors, files = np.empty((len(kept), d), dtype=np.float32), []
    for place, k in enumerate(kept):
        was = old.files[same[k]] if k in same else None
        vectors[place] = old.vectors[same[k]] if k in same else new[at[items.paths[k]]]
        files.append(_file(items.paths[k], was))
    return Index(vectors, tuple(items.relpath(k) for k in kept), Path(items.root), files, settings)


def _file(path: Path, was: list | None) -> list:
    stat = path.stat()
    return was if was and [stat.st_size, stat.st_mtime_ns] == list(was[:2]) else fingerprint(path)
