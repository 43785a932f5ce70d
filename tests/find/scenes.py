"""Pictures with something to see in every corner, another one for each seed, and two edits of them."""

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter


def scene(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    "A picture with as many corners and edges as a photo: 150 shapes."
    rng = np.random.default_rng(seed)
    im = Image.new("RGB", size, tuple(rng.integers(60, 200, 3).tolist()))
    draw = ImageDraw.Draw(im)
    for _ in range(150):
        x, y = rng.uniform(-0.1, 1.1, 2) * size
        points = [(x + dx, y + dy) for dx, dy in rng.normal(0, 22, (5, 2))]
        colour = tuple(rng.integers(0, 256, 3).tolist())
        draw.polygon(points, fill=colour) if rng.random() < 0.6 else draw.ellipse(
            (x - 9, y - 7, x + 9, y + 7), fill=colour
        )
    return im.filter(ImageFilter.GaussianBlur(0.7))


def crop(im):
    return im.crop((30, 20, 30 + round(im.width * 0.8), 20 + round(im.height * 0.9)))


def recolour(im):
    return ImageEnhance.Brightness(ImageEnhance.Color(im).enhance(0.3)).enhance(0.6)
