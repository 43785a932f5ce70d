"""Edits that people make to pictures, to plant copies whose origin is known among images whose duplicates are not."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Collection
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from .images import open_image
from .items import Items

Edit = Callable[[Image.Image, Random], Image.Image]


class Edited(NamedTuple):
    "A copy of a picture and what was done to it"

    image: Image.Image
    what: str  # a key of `EDITS`; of a composite several, joined by " + "


def edited(im: Image.Image, rng: Random) -> Edited:
    "An edited copy of the RGB image `im`: one of `EDITS` at random, in one of seven cases two or three of them."
    together = rng.random() < 1 / 7
    names = rng.sample(_TOGETHER, rng.choice((2, 3))) if together else [rng.choice([*EDITS])]
    for name in names:
        im = EDITS[name](im, rng)
    return Edited(im, " + ".join(names))


class Copies(NamedTuple):
    "Edited copies of some images of a dataset; entry k of each belongs to the k-th copy"

    items: Items
    sources: np.ndarray  # (n,) int64, the item that it is a copy of
    edits: tuple[str, ...]  # what was done


def plant(
    items: Items,
    n: int,  # copies, each of another image where there are as many
    folder: str | os.PathLike,  # an empty one of ours, never the user's
    seed: int = 0,
    skip: Collection[int] = (),  # items of which no copy shall be made
) -> Copies:
    "Edited copies of random `items`, written to `folder` as JPEG of quality 75 to 92; what cannot be read or edited is passed over."
    rng, sources, edits, paths = Random(seed), [], [], []
    left = [k for k in range(len(items)) if k not in skip]
    for k in rng.sample(left, len(left)):
        if len(paths) == n:
            break
        path = Path(folder, f"{len(paths):05}.jpg")
        try:
            copy, what = edited(open_image(items.paths[k]).convert("RGB"), rng)
            copy.save(path, quality=rng.randint(75, 92))
        except (OSError, ValueError):
            # Unreadable; a few pixels, too little to edit; longer than a JPEG can be.
            path.unlink(missing_ok=True)
            continue
        paths.append(path)
        sources.append(k)
        edits.append(what)
    none = (None,) * len(paths)
    return Copies(
        Items(tuple(paths), none, none, Path(folder)), np.array(sources, dtype=np.int64), tuple(edits)
    )


def _recompress(im: Image.Image, rng: Random) -> Image.Image:
    data = io.BytesIO()
    im.save(data, "JPEG", quality=rng.randint(5, 25))
    return Image.open(data).convert("RGB")


def _cropper(low: float, high: float) -> Edit:
    def crop(im: Image.Image, rng: Random) -> Image.Image:
        share = rng.uniform(low, high)
        w, h = (max(1, round(side * share)) for side in im.size)
        x, y = rng.randint(0, im.width - w), rng.randint(0, im.height - h)
        return im.crop((x, y, x + w, y + h))

    return crop


def _turn(im: Image.Image, rng: Random) -> Image.Image:
    return im.rotate(rng.choice((-1, 1)) * rng.uniform(15, 30), Image.Resampling.BILINEAR)


def _tilt(im: Image.Image, rng: Random) -> Image.Image:
    return im.rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC, expand=True)


def _quarter_turn(im: Image.Image, rng: Random) -> Image.Image:
    return im.transpose(rng.choice((Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)))


def _square(im: Image.Image, rng: Random) -> Image.Image:
    return im.resize((min(im.size), min(im.size)))


def _shrink(im: Image.Image, rng: Random) -> Image.Image:
    share = rng.uniform(0.25, 0.5)
    return im.resize([max(8, round(side * share)) for side in im.size])


def _blur(im: Image.Image, rng: Random) -> Image.Image:
    return im.filter(ImageFilter.GaussianBlur(max(im.size) * rng.uniform(0.005, 0.0125)))


def _recolour(im: Image.Image, rng: Random) -> Image.Image:
    for enhance, factors in _FACTORS:
        im = enhance(im).enhance(rng.choice(factors))
    return im


_FACTORS = (
    (ImageEnhance.Color, (0.3, 2.0)),
    (ImageEnhance.Brightness, (0.6, 1.5)),
    (ImageEnhance.Contrast, (0.7, 1.4)),
)


def _write(im: Image.Image, rng: Random) -> Image.Image:
    im, letters = im.copy(), "ABCDEFGHIJKLMNOPRSTUVWabcdefghiklmnoprstuvw "
    draw, font = ImageDraw.Draw(im), ImageFont.load_default(size=max(8, im.height // rng.randint(12, 24)))
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, im.width // 2), rng.randint(0, int(im.height * 0.9))
        draw.text(at, "".join(rng.choices(letters, k=18)), fill=_colour(rng), font=font)
    return im


def _sticker(im: Image.Image, rng: Random) -> Image.Image:
    im, side = im.copy(), max(1, round(min(im.size) * rng.uniform(0.12, 0.25)))
    x, y = rng.randint(0, im.width - side), rng.randint(0, im.height - side)
    ImageDraw.Draw(im).ellipse((x, y, x + side, y + side), fill=_colour(rng))
    return im


def _frame(im: Image.Image, rng: Random) -> Image.Image:
    return ImageOps.expand(im, max(1, round(min(im.size) * rng.uniform(0.08, 0.25))), _colour(rng))


def _screenshot(im: Image.Image, rng: Random) -> Image.Image:
    w, h = im.size
    page = Image.new("RGB", (round(w * 1.5), round(h * 1.6)), (245, 245, 245))
    bar, draw = max(4, h // 10), ImageDraw.Draw(page)
    draw.rectangle((0, 0, page.width, bar), fill=(50, 70, 110))
    draw.text((bar // 3, bar // 4), "9:41   gallery   share   like", fill="white", font_size=max(6, bar // 2))
    page.paste(im, (rng.randint(0, page.width - w), rng.randint(bar, page.height - h)))
    return page


def _grain(im: Image.Image, rng: Random) -> Image.Image:
    w, h = im.size
    grain = Image.frombytes("L", (w, h), rng.randbytes(w * h)).convert("RGB")
    return Image.blend(im, grain, rng.uniform(0.1, 0.3))


def _colour(rng: Random) -> tuple[int, int, int]:
    return tuple(rng.randint(0, 255) for _ in range(3))


# The families of imagededup's "transformed" benchmark and of the image copy sets Copydays and DISC21.
EDITS: dict[str, Edit] = {
    "recompressed": _recompress,
    "cropped": _cropper(0.6, 0.85),
    "trimmed": _cropper(0.85, 0.95),
    "mirrored": lambda im, rng: ImageOps.mirror(im),
    "upside down": lambda im, rng: ImageOps.flip(im),
    "turned": _turn,
    "tilted": _tilt,
    "quarter turn": _quarter_turn,
    "squeezed": _square,
    "shrunk": _shrink,
    "blurred": _blur,
    "grey": lambda im, rng: ImageOps.grayscale(im).convert("RGB"),
    "recoloured": _recolour,
    "text": _write,
    "sticker": _sticker,
    "framed": _frame,
    "screenshot": _screenshot,
    "grain": _grain,
}
_TOGETHER = [
    "recompressed", "cropped", "mirrored", "recoloured", "text", "blurred", "shrunk", "framed", "tilted", "sticker",
]  # fmt: skip
