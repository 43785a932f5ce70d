"""Images as vectors of their own pixels, and how sharp they are: what needs no model."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .images import UnreadableImage, open_image
from .items import Items

SIDE = 32
SIDE_OF_SHARPNESS = 256  # images are compared at one size: a larger one is not the sharper for it


def pixel_vectors(
    items: Items,
    size: int = SIDE,  # pixels a side to which each image is squeezed
) -> tuple[np.ndarray, Items]:  # (n, 3 * size**2) float32, the n readable images
    """The colours of each readable image's pixels, scaled to length 1, and the items in the rows' order.

    Tells a picture from others as long as nothing moves in it; a black one is a row of zeros.
    Source: "A scalable solution to detect duplicate images", mlearning.ai.
    """
    if size < 1:
        raise ValueError(f"size is {size}; give at least one pixel a side")
    vectors, errors = np.empty((len(items), 3 * size * size), dtype=np.float32), {}
    for k, path in enumerate(items.paths):
        try:
            image = open_image(path, size).resize((size, size), Image.Resampling.BOX)
        except UnreadableImage as err:
            errors[k] = str(err)
            continue
        vectors[k - len(errors)] = np.asarray(image, dtype=np.float32).ravel()
    vectors = vectors[: len(items) - len(errors)]
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(length, 1e-8), items.without(errors)


def sharpness(image: Image.Image) -> float:  # grey levels squared
    """Variance of the Laplacian of `image` in grey, squeezed to 256 × 256: blur lowers it, noise raises it.

    Source: Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", 2000.
    """
    side = SIDE_OF_SHARPNESS
    a = np.asarray(image.convert("L").resize((side, side), Image.Resampling.BILINEAR), dtype=np.float32)
    laplacian = a[:-2, 1:-1] + a[2:, 1:-1] + a[1:-1, :-2] + a[1:-1, 2:] - 4 * a[1:-1, 1:-1]
    return float(laplacian.var())
