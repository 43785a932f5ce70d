"""The sample dataset: photographs that scikit-image, scikit-learn and matplotlib ship, with planted duplicates."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont, ImageOps

from .images import open_image

# name -> (label, package, file in the package, (left, top, right, bottom) or None for the whole picture)
_SKI, _SKL, _MPL = "skimage", "sklearn", "matplotlib"
SCENES = {
    "astronaut": ("person", _SKI, "data/astronaut.png", (40, 0, 400, 380)),
    "helmet": ("object", _SKI, "data/astronaut.png", (330, 310, 512, 512)),
    "hopper": ("person", _MPL, "mpl-data/sample_data/grace_hopper.jpg", None),
    "cameraman": ("person", _SKI, "data/camera.png", (50, 50, 330, 400)),
    "skyline": ("building", _SKI, "data/camera.png", (352, 110, 512, 270)),
    "cat": ("animal", _SKI, "data/chelsea.png", None),
    "horse": ("animal", _SKI, "data/horse.png", None),
    "coffee": ("object", _SKI, "data/coffee.png", None),
    "coins": ("object", _SKI, "data/coins.png", None),
    "motorcycle": ("vehicle", _SKI, "data/motorcycle_left.png", None),
    "rocket": ("vehicle", _SKI, "data/rocket.jpg", (190, 60, 460, 427)),
    "tower": ("building", _SKI, "data/rocket.jpg", (0, 40, 150, 427)),
    "pagoda": ("building", _SKL, "datasets/images/china.jpg", (130, 0, 440, 427)),
    "lake": ("nature", _SKL, "datasets/images/china.jpg", (450, 120, 640, 427)),
    "dahlia": ("nature", _SKL, "datasets/images/flower.jpg", None),
    "grass": ("nature", _SKI, "data/grass.png", None),
    "gravel": ("texture", _SKI, "data/gravel.png", None),
    "brick": ("texture", _SKI, "data/brick.png", None),
    "galaxies": ("space", _SKI, "data/hubble_deep_field.jpg", (100, 100, 700, 600)),
    "moon": ("space", _SKI, "data/moon.png", None),
    "retina": ("microscopy", _SKI, "data/retina.jpg", None),
    "tissue": ("microscopy", _SKI, "data/ihc.png", None),
    "cell": ("microscopy", _SKI, "data/cell.png", None),
    "page": ("document", _SKI, "data/page.png", None),
    "writing": ("document", _SKI, "data/text.png", None),
}
LONGEST_SIDE = 400


class Planted(NamedTuple):
    "Something that was put into the sample dataset on purpose"

    what: str  # in words
    files: tuple[str, ...]  # relative paths: the copies, or the broken file


class Sample(NamedTuple):
    "The sample dataset on disk"

    path: Path
    planted: tuple[Planted, ...]


def _sign(im: Image.Image) -> Image.Image:
    im = im.copy()
    font = ImageFont.load_default(size=im.width // 11)
    ImageDraw.Draw(im).text((im.width * 0.3, im.height * 0.86), "© A. Sample", fill="white", font=font)
    return im


def _crop(im: Image.Image) -> Image.Image:
    w, h = im.size
    return im.crop((int(w * 0.1), int(h * 0.06), int(w * 0.94), int(h * 0.92)))


def _half(im: Image.Image) -> Image.Image:
    return im.resize((im.width // 2, im.height // 2))


def _same(im: Image.Image) -> Image.Image:
    return im


# (what was done, scene, edit, JPEG quality, label of the copy or None for the scene's own)
_COPIES: tuple[tuple[str, str, Callable, int, str | None], ...] = (
    ("a signature written over it", "pagoda", _sign, 90, None),
    ("cropped", "cat", _crop, 90, None),
    ("cropped", "motorcycle", _crop, 90, None),
    ("re-encoded", "hopper", _same, 30, None),
    ("half the size", "rocket", _half, 80, None),
    ("mirrored", "dahlia", ImageOps.mirror, 90, None),
    ("a copy under a wrong label", "moon", _same, 70, "texture"),
)
_FIVE = ("coffee", ("coffee", "espresso", "cup", "IMG_0042", "download"))


def sample_dataset(path: str | os.PathLike = "imgclean-sample") -> Sample:
    """A folder of 25 scenes in 10 labels, one of them five times, 7 edited copies, and one truncated file.

    Offline, the same bytes each time with the same Pillow; files that exist already are left as they are.
    """
    root = Path(path)
    scenes = {name: _scene(*where) for name, (_, *where) in SCENES.items()}
    for name, im in scenes.items():
        _save(im, root / SCENES[name][0] / f"{name}.jpg", 92)
    first, names = _FIVE
    label = SCENES[first][0]
    for name in names:
        _save(scenes[first], root / label / f"{name}.jpg", 92)
    planted = [Planted("one picture five times", tuple(f"{label}/{name}.jpg" for name in names))]
    for what, scene, edit, quality, wrong in _COPIES:
        original = f"{SCENES[scene][0]}/{scene}.jpg"
        copy = f"{wrong or SCENES[scene][0]}/{scene}_copy.jpg"
        _save(edit(scenes[scene]), root / copy, quality)
        planted.append(Planted(what, (original, copy)))
    planted.append(Planted("a truncated file", ("texture/truncated.jpg",)))
    _truncate(root / "texture/gravel.jpg", root / "texture/truncated.jpg")
    return Sample(root, tuple(planted))


def _scene(package: str, file: str, box: tuple | None) -> Image.Image:
    folder = Path(find_spec(package).submodule_search_locations[0])
    im = open_image(folder / file)
    im = im.crop(box) if box else im
    im.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return im


def _save(im: Image.Image, path: Path, quality: int) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        im.save(path, quality=quality)


def _truncate(source: Path, path: Path) -> None:
    if not path.exists():
        data = source.read_bytes()
        path.write_bytes(data[: len(data) // 2])
