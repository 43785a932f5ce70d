"""Images that were no files, written once into a folder of their own, and found there the next time."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image
from platformdirs import user_cache_path

from .cleaned import FOLDER, sync_folder
from .images import PNG_MODES
from .stored import read_json

MARK = "source.json"
TIFF_MODES = ("CMYK", "LAB", "I", "F")  # that PNG cannot hold; Pillow 12 cannot read its own YCbCr
ORIENTATION = 0x0112


def kept_folder(
    digest: str,  # of the content
    fill: Callable[[Path], None],  # writes the files into an empty folder
    folder: str | os.PathLike | None = None,  # default: one by content in the user's cache folder
    names: Iterable[
        str | os.PathLike
    ] = (),  # of the files: those that are gone from a folder that held it are written again
) -> Path:
    """The folder that holds what `fill` writes; one that holds it already is taken as it is, nothing is overwritten.

    It is there in full or not at all. Raises `FileExistsError` where `folder` holds anything else.
    """
    target = Path(folder) if folder is not None else kept_root() / digest
    if _holds(target, digest):
        gone = [name for name in names if not os.path.lexists(target / name)]
        if gone:  # caches are emptied by age, and `apply` moves files out
            with _filled(target, fill) as new:
                for name in gone:
                    _place_file(new / name, target / name)
        return target
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(
            f"{str(target)!r} is there and holds something else; give a folder that is new or empty"
        )
    try:
        with _filled(target, fill) as new:
            (new / FOLDER).mkdir()
            (new / FOLDER / MARK).write_text(json.dumps({"imgclean": "source", "digest": digest}), "ascii")
            new.chmod(0o755)  # mkdtemp's folders are for their owner alone
            place_folder(new, target)
    except OSError:
        if not _holds(target, digest):  # else another process was faster
            raise
    return target


@contextmanager
def _filled(target: Path, fill: Callable[[Path], None]) -> Iterator[Path]:
    "A folder for the time being beside `target` with what `fill` writes."
    target.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        fill(new)
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _place_file(new: Path, target: Path) -> None:
    "Give the file `new` the name `target`, unless another process was faster."
    target.parent.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(target):
        os.replace(new, target)


def place_folder(new: Path, target: Path) -> None:
    "Give the folder `new` the name `target`, which is free or an empty folder; raises `OSError` where it is not."
    with suppress(OSError):
        target.rmdir()  # Windows replaces no folder, not even an empty one
    if os.path.lexists(target):
        raise FileExistsError(f"{str(target)!r} is there already; give a folder that is new or empty")
    os.rename(new, target)
    sync_folder(target.parent)


def put_file(source: Path, target: Path, link: bool = True) -> bool:
    "A hard link to `source` in `target`, or a copy where that is impossible or not wanted: whether it is a copy."
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        try:
            os.link(os.path.realpath(source), target)  # to the file, not to a link that leads there
            return False
        except FileExistsError:  # a copy would write over it, and over all that are linked to it
            raise
        except OSError:
            pass
    shutil.copy2(source, target)
    return True


def kept_root() -> Path:
    "Where the folders by content are, in the user's cache."
    return user_cache_path("imgclean", appauthor=False) / "sources"


def _holds(folder: Path, digest: str) -> bool:
    try:
        return read_json(folder / FOLDER / MARK)["digest"] == digest
    except (OSError, ValueError, KeyError, TypeError):
        return False


class Contents:
    "Images without files, one by one: bytes as they are, pictures as lossless PNG, or TIFF where PNG has no such mode"

    def __init__(self, images: Callable[[], Iterable[bytes | Image.Image]]):
        self.images = images  # called twice: for the digest, and where they are to be written

    def write(self, folder: str | os.PathLike | None = None) -> list[Path]:
        "The file of each, in order, below `folder` or in the user's cache."
        digest, endings = self._digest()
        width = len(str(max(len(endings) - 1, 0)))
        names = [f"{k:0{width}d}{ending}" for k, ending in enumerate(endings)]

        def fill(new: Path) -> None:
            for name, image in zip(names, self.images(), strict=True):
                if isinstance(image, bytes):
                    (new / name).write_bytes(image)
                else:
                    _save(image, new / name)

        top = kept_folder(digest, fill, folder, names)
        return [top / name for name in names]

    def _digest(self) -> tuple[str, list[str]]:  # and the ending of each file
        whole, endings = hashlib.blake2b(digest_size=16), []
        for image in self.images():
            parts = [image] if isinstance(image, bytes) else list(_parts(image))
            own = hashlib.blake2b(digest_size=16)
            for part in parts:
                own.update(part)
            endings.append(ending_of(image) if isinstance(image, bytes) else _ending(image))
            whole.update(own.digest() + endings[-1].encode() + b"\0")
        return whole.hexdigest(), endings


def _parts(image: Image.Image) -> Iterator[bytes]:
    "What makes a picture the same picture: mode, size, pixels, palette, transparency, and which side is up."
    about = (image.mode, image.size, image.getexif().get(ORIENTATION), image.info.get("transparency"))
    yield repr(about).encode()
    yield bytes(image.getpalette() or ()) if image.mode in ("P", "PA") else b""
    yield image.tobytes()


def _ending(image: Image.Image) -> str:
    return ".tif" if image.mode in TIFF_MODES else ".png"


def _save(image: Image.Image, path: Path) -> None:
    if image.mode not in (*PNG_MODES, *TIFF_MODES):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    turned = image.getexif().get(ORIENTATION)
    exif = Image.Exif()
    if turned:
        exif[ORIENTATION] = turned
    image.save(path, "TIFF" if path.suffix == ".tif" else "PNG", **({"exif": exif} if turned else {}))


def ending_of(data: bytes) -> str:
    "The ending that a file of these bytes should have."
    try:
        with Image.open(io.BytesIO(data)) as image:
            usual = {"JPEG": ".jpg", "TIFF": ".tif"}
            return usual.get(image.format) or f".{image.format.lower()}"
    except Exception:  # whoever opens it says what is wrong
        return ".bin"
