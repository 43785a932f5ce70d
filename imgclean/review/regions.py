"""Which regions of two images agree, as pictures to lay over them. What says so comes with the groups; no torch here."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageOps

SIDE = 256  # pixels of the longer side: a map has some 7 × 7 places
# Of cosines 0, .5 and 1; the images are grey beneath, and blue and yellow differ to a colour-blind eye, too.
COLOURS = {"black": "#0020ff", "mid": "#c04090", "white": "#ffee00"}


def shown_regions(
    explain: Callable[[os.PathLike, os.PathLike], Sequence],  # of `Groups`: for each image a map and its box
    paths: Sequence[os.PathLike],  # two
    sizes: Sequence[tuple[int, int]],  # width and height of each
) -> tuple[dict, list[bytes]]:  # {"low", "high"} cosines, PNGs as high to their width as the images
    "Each image's map as a picture to stretch over it, clear where the model sees nothing; or {'error': why there is none}."
    try:
        regions = explain(*paths)
        every = np.concatenate([np.ravel(region.map) for region in regions])
        if not np.isfinite(every).all():
            raise ValueError("the model returns numbers that are not finite; look with fp32")
    except Exception as err:  # whatever the user's model or its device raises is said in the comparison
        said = (str(err).splitlines() or [""])[0][:300]
        return {
            "error": said if isinstance(err, (OSError, ValueError)) else f"{type(err).__name__}: {said}"
        }, []
    pictures = [_picture(*region, size) for region, size in zip(regions, sizes, strict=True)]
    return {"low": float(every.min()), "high": float(every.max())}, pictures


def _picture(
    cosines: np.ndarray,  # (h, w)
    box: tuple[float, float, float, float],  # left, top, right, bottom in parts of the image's sides
    size: tuple[int, int],  # of the image
) -> bytes:
    scale = SIDE / max(*size, 1)  # a file that is gone has no size
    width, height = (max(1, round(n * scale)) for n in size)
    # Outwards: what the box lacks of a pixel would be a grey rim.
    left, top = (math.floor(n * side) for n, side in zip(box[:2], (width, height), strict=True))
    right, bottom = (math.ceil(n * side) for n, side in zip(box[2:], (width, height), strict=True))
    grey = Image.fromarray(np.uint8(255 * np.clip(cosines, 0, 1) + 0.5))
    grey = grey.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    picture = Image.new("RGBA", (width, height))
    picture.paste(ImageOps.colorize(grey, **COLOURS), (left, top))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
