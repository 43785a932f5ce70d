"""Digests and perceptual hashes of image files: equal bytes, equal pixels, the same picture. Needs no torch."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.fft import dctn
from tqdm.auto import tqdm

from ..dataset.cleaned import content_digest
from ..dataset.images import open_image
from ..dataset.items import Items
from .cache import digest_of

SIDE = 32  # of the grey picture whose frequencies are hashed
LOW = slice(1, 9)  # frequencies of each axis that are hashed: 8 × 8 = 64 bits, without the mean
PLAIN = 2.0  # grey levels: standard deviation below which a picture has no frequencies to speak of
WAITING = 4096  # items that wait for a thread; a million at once would take a gigabyte
_NOISE = 1e-6  # of a DCT in float64: smaller ones are 0, whichever way the picture is turned

# The dihedral group: (transposed, odd frequencies along y change sign, along x). The first is the picture itself.
ORIENTATIONS = tuple((t, y, x) for t in (False, True) for y in (False, True) for x in (False, True))


@dataclass(frozen=True, eq=False)
class Hashes:
    "What `hash_items` found, row k of item k"

    content: list[bytes | None]  # 16 bytes, digest of the file; None: unreadable
    pixels: list[bytes | None]  # 16 bytes, digest of the decoded pixels; None: unreadable or not asked for
    perceptual: np.ndarray  # (n, 8) uint64, of the picture in its 8 orientations
    plain: np.ndarray  # (n,) bool: the perceptual hash says nothing; the picture is plain or unreadable

    def __len__(self) -> int:
        return len(self.content)


def pixel_digest(image: Image.Image) -> bytes:  # 16 bytes, BLAKE2b
    "Digest of the size and RGB pixels of `image`: the same for every lossless file of it, whatever its metadata."
    image = image.convert("RGB")
    digest = hashlib.blake2b(b"%d %d\0" % image.size, digest_size=16)
    digest.update(image.tobytes())
    return digest.digest()


def perceptual_hash(image: Image.Image) -> np.ndarray:  # (8,) uint64
    """64-bit DCT hashes of `image` in all 8 orientations, the first as it is; see `is_plain` for what has none.

    A bit is the sign of one of the 8 × 8 lowest frequencies. Turning or mirroring a picture swaps its axes or changes
    the sign of odd frequencies, so one DCT gives all eight, and it does not matter which of two pictures is turned.
    Source: Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010, with 0 for the median.
    """
    return _hash(_grey(image))


def is_plain(image: Image.Image) -> bool:
    "Whether `image` is of one grey, so that its perceptual hash is that of noise."
    return bool(_grey(image).std() < PLAIN)


def hash_items(
    items: Items,
    *,
    pixels: bool = True,  # False: no digests of pixels; JPEGs are then decoded at a reduced scale, which is faster
    max_pixels: int | None = None,  # larger images are unreadable; None: Pillow's limit
    num_workers: int | None = None,  # threads; default: one a core
    progress: bool = True,  # a bar on stderr; never where stderr is no terminal
) -> Hashes:
    "`Hashes` of all `items`, each file decoded once; what cannot be read gets None and is like nothing."
    n = len(items)
    hashes = Hashes([None] * n, [None] * n, np.zeros((n, 8), np.uint64), np.ones(n, bool))

    def look(k: int) -> None:
        try:
            image = open_image(items.paths[k], None if pixels else 4 * SIDE, max_pixels)
            content = content_digest(items.paths[k])
        except OSError:  # `UnreadableImage` is one
            return
        grey = _grey(image)
        hashes.content[k], hashes.perceptual[k] = content, _hash(grey)
        hashes.pixels[k] = pixel_digest(image) if pixels else None
        hashes.plain[k] = grey.std() < PLAIN

    bar = tqdm(total=n, desc="hashing", unit="img", leave=False, disable=None if progress else True)
    with bar, ThreadPoolExecutor(num_workers or os.cpu_count()) as pool:
        for start in range(0, n, WAITING):
            for _ in pool.map(look, range(start, min(n, start + WAITING))):
                bar.update()
    return hashes


def content_digests(items: Items, num_workers: int | None = None) -> list[bytes | None]:
    "Digest of each file, 16 bytes; None for what cannot be read."
    with ThreadPoolExecutor(num_workers or os.cpu_count()) as pool:
        return [*pool.map(digest_of, items.paths)]


def _grey(image: Image.Image) -> np.ndarray:  # (SIDE, SIDE) float64
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)


def _hash(grey: np.ndarray) -> np.ndarray:  # (8,) uint64
    low = dctn(grey, norm="ortho")[LOW, LOW]
    sign = np.where(np.arange(SIDE)[LOW] % 2, -1, 1)
    turned = [
        (low.T if transposed else low) * (sign[:, None] if y else 1) * (sign if x else 1)
        for transposed, y, x in ORIENTATIONS
    ]
    bits = np.stack(turned).reshape(len(ORIENTATIONS), 64) > _NOISE
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).ravel()
