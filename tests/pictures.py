"""Pictures made on the spot."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def picture(seed: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    "A picture of coloured shapes that differs for every seed."
    rng = np.random.default_rng(seed)
    im = Image.new("RGB", size, tuple(rng.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(im)
    for _ in range(12):
        x, y = rng.integers(0, size[0]), rng.integers(0, size[1])
        r = int(rng.integers(6, 40))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x - r, y - r // 2, x + r, y + r // 2), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return im


def write_pictures(folder: Path, names: list[str], seeds: list[int]) -> None:
    for name, seed in zip(names, seeds, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(path, quality=95)
