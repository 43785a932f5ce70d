"""Pictures and five plain edits of each: a protocol on which other tools have published numbers."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from random import Random
from typing import Annotated

import typer
from PIL import Image, ImageOps

from ..dataset.images import UnreadableImage, open_image
from ..dataset.items import Items
from .accuracy import MinPrecision, Peers, Picture, Table, compare
from .common import print_json
from .peers import PACKAGES, check_installed
from .scores import Truth

CROP = 560 / 640  # of each side
QUALITY = 95  # of the JPEGs, which the protocol leaves open


def transformed(
    folder: Annotated[Path, typer.Argument(help="Pictures, no two of them the same.")],
    min_precision: MinPrecision = 0.99,
    peers: Peers = False,
    seed: Annotated[int, typer.Option(help="Of the places where crops are cut.")] = 0,
    table: Table = None,
    picture: Picture = None,
) -> None:
    "As accuracy, on each picture with five edits of it: cropped, mirrored, upside down, turned by 25°, squeezed to 1:1."
    if peers:
        check_installed(*PACKAGES, option="--peers")
    with tempfile.TemporaryDirectory(prefix="imgclean-") as copies:
        rows = write_transformed(Items.from_folder(folder), Path(copies), seed)
        items = Items.from_folder(copies)
        print_json(compare(items, Truth.of(items, rows), min_precision, peers, table, picture))


def write_transformed(items: Items, folder: Path, seed: int) -> dict[str, tuple[str, str]]:
    """File -> (group, edit) of what was written to `folder`: each readable image as it is, and five edits of it.

    Source: the "transformed dataset" of imagededup's documentation, user_guide/benchmarks: from 640 × 480 pictures a
    random crop of 560 × 420, both mirrorings, a rotation by 25°, and a resize to 1:1.
    """
    rows = {}
    for k, path in enumerate(items.paths):
        try:
            im = open_image(path).convert("RGB")
        except UnreadableImage:
            continue
        original = f"{k:05}_original{path.suffix.lower()}"
        shutil.copyfile(path, folder / original)
        rows[original] = (items.relpath(k), "original")
        for edit, copy in _edits(im, Random(f"{seed}-{k}")).items():
            name = f"{k:05}_{edit.replace(' ', '_')}.jpg"
            copy.save(folder / name, quality=QUALITY)
            rows[name] = (items.relpath(k), edit)
    return rows


def _edits(im: Image.Image, rng: Random) -> dict[str, Image.Image]:
    w, h = (max(1, round(side * CROP)) for side in im.size)
    x, y = rng.randint(0, im.width - w), rng.randint(0, im.height - h)
    side = min(im.size)
    return {
        "crop": im.crop((x, y, x + w, y + h)),
        "horizontal flip": ImageOps.mirror(im),
        "vertical flip": ImageOps.flip(im),
        "rotation by 25": im.rotate(25, Image.Resampling.BILINEAR),
        "resize to square": im.resize((side, side)),
    }
