"""Open any image file upright, as RGB. Knows Pillow only: no dataset, no torch."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

WHITE = (255, 255, 255)
# Formats that Pillow opens with a plugin: ending -> name, module that brings it, what to install.
EXTRA = "pip install imgclean[formats]"
HEIC = ("HEIC", "pillow_heif", EXTRA)
PLUGINS = dict.fromkeys((".heic", ".heics", ".heif", ".heifs", ".hif"), HEIC) | {
    ".jxl": ("JPEG XL", "pillow_jxl", EXTRA),
    ".avif": ("AVIF", None, "pip install 'pillow>=11.3'"),
}
SEVERAL = frozenset((*PLUGINS, ".avifs", ".gif", ".webp", ".png", ".apng", ".tif", ".tiff", ".mpo"))
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
PNG_START = 4096  # bytes in which nearly every PNG says whether it is animated


class UnreadableImage(OSError):
    "A file that cannot be opened as an image; its text is the reason, without the path"


@lru_cache(maxsize=1)
def image_extensions() -> frozenset[str]:
    "File name endings, with dot and in lower case, of every image format that Pillow opens here or with a plugin."
    formats = Image.registered_extensions()
    readable = {ext for ext, fmt in formats.items() if fmt in Image.OPEN}
    # Pillow also registers stubs for HDF5, GRIB or MPEG, which it names but cannot decode.
    return frozenset(
        e for e in readable if (mimetypes.guess_type("x" + e)[0] or _mime(formats[e])).startswith("image/")
    ) | frozenset(PLUGINS)


def _mime(fmt: str) -> str:
    return Image.MIME.get(fmt, "")


@lru_cache(maxsize=1)
def _plugins() -> bool:
    "Whether a plugin is installed; Pillow knows those from now on. They take a while to import, so only when needed."
    found = False
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
        found = True
    with suppress(ImportError):
        import pillow_jxl  # noqa: F401  # importing it is registering it

        found = True
    return found


def _opened(path: str | os.PathLike | BinaryIO) -> Image.Image:
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        if not _plugins():
            raise
        return Image.open(path)


def frame_counts(paths: Sequence[str | os.PathLike]) -> dict[int, int]:  # place in `paths` -> frames
    "Which files hold several pictures, and how many; opens those whose format can, and decodes none."

    def count(k: int) -> int:
        try:
            if _is_still_png(paths[k]):
                return 1
            with _opened(paths[k]) as im:
                return getattr(im, "n_frames", 1)
        except Exception:  # whoever opens it says what is wrong
            return 1

    able = [k for k, path in enumerate(paths) if os.path.splitext(path)[1].lower() in SEVERAL]
    with ThreadPoolExecutor() as pool:
        return {k: n for k, n in zip(able, pool.map(count, able), strict=True) if n > 1}


def _is_still_png(path: str | os.PathLike) -> bool:
    "Whether the chunk of an animation is missing where it must be, before the first pixels; ten times sooner than Pillow."
    with open(path, "rb") as f:
        start, pixels, _ = f.read(PNG_START).partition(b"IDAT")
    return start.startswith(b"\x89PNG") and bool(pixels) and b"acTL" not in start


def open_image(
    path: str | os.PathLike | BinaryIO,
    size: int | None = None,  # shorter side needed, in pixels: JPEGs are then decoded at a reduced scale
    max_pixels: int | None = None,  # refuse larger ones; default: Pillow's own limit, 179 million
) -> Image.Image:  # RGB, 8 bits a channel
    """The picture in `path` as a person sees it: first frame, turned upright by its EXIF, over white.

    Raises `UnreadableImage` with the reason for anything else than a picture.
    """
    try:
        with _opened(path) as im:
            if max_pixels and im.width * im.height > max_pixels:
                raise UnreadableImage(
                    f"{im.width} x {im.height} pixels are more than max_pixels={max_pixels}"
                )
            if size:
                im.draft("RGB", (size, size))
            im.load()
            return _to_rgb(ImageOps.exif_transpose(im))
    except Exception as err:  # Pillow's plugins raise nearly every class of exception on broken files
        raise UnreadableImage(_reason(path, err)) from err


def reading_errors(paths: Sequence[str | os.PathLike]) -> dict[int, str]:  # place in `paths` -> reason
    "Which files cannot be opened as pictures, and why; opens every one."

    def error(path: str | os.PathLike) -> str | None:
        try:
            open_image(path)
        except UnreadableImage as err:
            return str(err)

    with ThreadPoolExecutor() as pool:
        return {k: reason for k, reason in enumerate(pool.map(error, paths)) if reason is not None}


def image_size(path: str | os.PathLike) -> tuple[int, int]:  # (width, height) in pixels, upright
    "Width and height of the picture in `path`, from its header alone."
    try:
        with _opened(path) as im:
            turned = im.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (im.height, im.width) if turned else im.size
    except Exception as err:
        raise UnreadableImage(_reason(path, err)) from err


def metadata(path: str | os.PathLike) -> dict[int, object]:  # EXIF tag -> value
    "The EXIF entries of the picture in `path`, from its header alone; raises `UnreadableImage`."
    try:
        with _opened(path) as im:
            exif = im.getexif()
            inner = {tag: value for ifd in (0x8769, 0x8825) for tag, value in exif.get_ifd(ifd).items()}
            return {k: v for k, v in exif.items() if k not in (0x8769, 0x8825)} | inner
    except Exception as err:
        raise UnreadableImage(_reason(path, err)) from err


def _to_rgb(im: Image.Image) -> Image.Image:
    if im.mode == "RGB":
        return im
    if im.mode.startswith("I;16") or im.mode in ("I", "F"):
        return _deep_gray(im).convert("RGB")
    if im.has_transparency_data:
        im = im.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", im.size, (*WHITE, 255)), im).convert("RGB")
    return im.convert("RGB")


def _deep_gray(im: Image.Image) -> Image.Image:
    "16 and 32 bit greys scaled to 8 bits; Pillow's own `convert` would clip all above 255 to white."
    a = np.nan_to_num(np.asarray(im, dtype=np.float64))
    low, high = float(a.min()), float(a.max())
    depths = [
        2**bits - 1 for bits in (8, 10, 12, 14, 16)
    ]  # 12 bits in a 16-bit file are the rule in medicine
    if im.mode != "F" and low >= 0 and high <= depths[-1]:
        low, high = 0, next(d for d in depths if d >= high)
    scaled = (a - low) * (255.0 / (high - low)) if high > low else np.zeros_like(a)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _reason(path: str | os.PathLike | BinaryIO, err: Exception) -> str:
    if isinstance(err, UnreadableImage):
        return str(err)
    if isinstance(err, FileNotFoundError):
        return "the file does not exist"
    if isinstance(err, PermissionError):
        return "no permission to read the file"
    if isinstance(err, UnidentifiedImageError):
        n_bytes = path.seek(0, os.SEEK_END) if hasattr(path, "seek") else Path(path).stat().st_size
        return (_needs(path) or "not an image that Pillow can read") if n_bytes else "the file is empty"
    if isinstance(err, OSError) and err.strerror:
        return err.strerror.lower()
    return " ".join(str(err).split()) or type(err).__name__


def _needs(path: str | os.PathLike | BinaryIO) -> str | None:
    "What to install for a format that Pillow does not know here."
    name = getattr(path, "name", "") if hasattr(path, "seek") else path
    ending = os.path.splitext(str(name))[1].lower()
    format, module, install = PLUGINS.get(ending, (None, None, None))
    missing = find_spec(module) is None if module else ending not in Image.registered_extensions()
    return f"{format} needs a plugin: {install}" if format and missing else None
