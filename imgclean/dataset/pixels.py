"""Images as vectors of their own pixels: the features that need no model."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .images import UnreadableImage, open_image
from .items import Items

SIDE = 32


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
