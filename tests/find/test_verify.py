import ctypes
import json
import os
import sys
import threading

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from scenes import crop, recolour, scene

from imgclean.dataset.images import open_image
from imgclean.dataset.items import Items
from imgclean.find.pairs import Pairs
from imgclean.find.verify import GRADES, Album, checked, verify_pairs


def text(im):
    im = im.copy()
    draw = ImageDraw.Draw(im)
    draw.rectangle((60, 150, 250, 180), fill="white")
    draw.text((70, 158), "A BANNER WITH SOME TEXT", fill="black")
    return im


def sticker(im):
    im = im.copy()
    ImageDraw.Draw(im).ellipse((200, 40, 260, 100), fill=(255, 0, 255))
    return im


EDITS = {
    "mirrored": ImageOps.mirror,
    "flipped upside down": ImageOps.flip,
    "rotated by 90° clockwise": lambda im: im.transpose(Image.Transpose.ROTATE_270),
    "rotated by 90° counterclockwise": lambda im: im.transpose(Image.Transpose.ROTATE_90),
    "rotated by 180°": lambda im: im.transpose(Image.Transpose.ROTATE_180),
    "rotated by 25° counterclockwise": lambda im: im.rotate(25),
    "rotated by 6° clockwise": lambda im: im.rotate(-6, Image.Resampling.BICUBIC, expand=True),
    "cropped to 72 %": crop,
    "stretched": lambda im: im.resize((240, 240)),
    "resized to 50 %": lambda im: im.resize((160, 120)),
    "in black and white": lambda im: im.convert("L"),
    "recoloured": recolour,
    "text or sticker on top": text,
    "text or sticker on top ": sticker,
    "framed": lambda im: ImageOps.expand(im, 40, (20, 60, 20)),
    "blurred": lambda im: im.filter(ImageFilter.GaussianBlur(3)),
    "mirrored, cropped to 72 %": lambda im: ImageOps.mirror(crop(im)),
    "mirrored, rotated by 25° counterclockwise": lambda im: ImageOps.mirror(im).rotate(25),
}


@pytest.fixture
def check(tmp_path):
    "The check of two pictures, the second made of the first."

    def run(original, copy, cosine=0.9):
        copy.convert("RGB").save(
            tmp_path / "copy.png"
        )  # the first item: in a pair, i > j, and j is the second
        original.save(tmp_path / "original.jpg", quality=90)
        (found,) = verify_pairs(Items.from_folder(tmp_path), Pairs.of([1], [0], [cosine]), progress=False)
        return found

    return run


@pytest.mark.parametrize("what", EDITS)
def test_what_was_done_is_named(check, what):
    found = check(scene(1), EDITS[what](scene(1)))
    assert found.probability > 0.9 and found.what == what.strip()
    assert found.grade == ("re-encoded" if what.startswith("resized") else "edited")
    assert found.mirrored == what.startswith(("mirrored", "flipped"))
    assert json.loads(json.dumps(found))[4] is found.mirrored  # the cache keeps it as JSON


@pytest.mark.parametrize("quality", [10, 30])
def test_compression_is_told_from_edits(check, tmp_path, quality):
    scene(2).save(tmp_path / "x.jpg", quality=quality)
    with Image.open(tmp_path / "x.jpg") as copy:
        copy.load()
    (tmp_path / "x.jpg").unlink()
    found = check(scene(2), copy)
    assert found.probability > 0.9 and (found.grade, found.what) == ("re-encoded", "re-encoded")


@pytest.mark.parametrize(
    "edit", ["mirrored", "rotated by 25° counterclockwise", "cropped to 72 %", "stretched"]
)
def test_the_transform_brings_each_corner_back(check, edit):
    original = scene(3)
    # The same edit of a picture of coordinates says where each pixel came from.
    x, y = np.meshgrid(np.arange(320, dtype=np.float32), np.arange(240, dtype=np.float32))
    came = [np.asarray(EDITS[edit](Image.fromarray(z))) for z in (x, y)]
    found = check(original, EDITS[edit](original))
    h, w = came[0].shape
    for u, v in [(w * 0.3, h * 0.3), (w * 0.7, h * 0.3), (w * 0.7, h * 0.7), (w * 0.3, h * 0.7)]:
        u, v = round(u), round(v)
        at = np.array(found.transform) @ [w - 1 - u if found.mirrored else u, v, 1]
        assert np.abs(at - [came[0][v, u], came[1][v, u]]).max() < 3


def test_different_pictures_are_not_one(check):
    for seed in range(4, 8):
        found = check(scene(seed), scene(seed + 10), cosine=0.85)
        assert (
            found.probability < 0.1 and found.grade in ("similar", "same scene") and found.transform is None
        )


def test_the_same_frame_and_logo_make_no_pair(check):
    def framed(seed):
        im = ImageOps.expand(scene(seed), 40, "white")
        im.paste(scene(99, (70, 50)), (10, 10))
        return im

    found = check(framed(20), framed(21), cosine=0.9)
    assert found.probability < 0.5


def test_the_same_plain_sky_makes_no_pair(check):
    def sky(seed):
        column = np.linspace(150, 220, 240, dtype=np.float32)[:, None, None] * np.array([0.6, 0.8, 1.0])
        im = Image.fromarray(np.broadcast_to(column, (240, 320, 3)).astype(np.uint8))
        im.paste(scene(seed, (60, 40)), (120 + 10 * (seed % 3), 180))
        return im

    found = check(sky(30), sky(31), cosine=0.9)
    assert found.probability < 0.5


def test_plain_pictures_are_no_pair(check):
    found = check(Image.new("RGB", (100, 80), "white"), Image.new("RGB", (100, 80), "grey"), cosine=0.95)
    assert found.probability < 0.5


def write(folder, pictures: dict) -> Items:
    for name, im in pictures.items():
        im.save(folder / name)
    return Items.from_folder(folder)


def test_exact_means_equal_bytes_or_equal_pixels(tmp_path):
    im = scene(5)
    almost = im.copy()
    almost.putpixel((7, 7), tuple(255 - c for c in im.getpixel((7, 7))))
    items = write(tmp_path, {"a.png": im, "b.png": im, "c.bmp": im, "d.png": almost})
    checks = verify_pairs(items, Pairs.of([1, 2, 3], [0, 0, 0], [0.9, 0.8, 0.7]), progress=False)
    assert [c.grade for c in checks] == ["exact", "exact", "re-encoded"]
    assert [c.probability == 1 for c in checks[:2]] == [True, True]
    assert checks[0].transform == ((1, 0, 0), (0, 1, 0))


def test_tiny_pictures(tmp_path):
    def tiny(seed):
        return scene(seed, (128, 128)).resize((32, 32), Image.Resampling.BOX)

    base = tiny(1)
    shifted = Image.fromarray(np.roll(np.asarray(base), (2, -1), (0, 1)))
    items = write(
        tmp_path,
        {
            "a.png": base,
            "b.png": shifted,
            "c.png": ImageOps.mirror(base),
            "d.png": tiny(2),
            "e.png": base.resize((48, 48)),
        },
    )
    pairs = Pairs.of([1, 2, 3, 4], [0, 0, 0, 0], [0.95, 0.95, 0.8, 0.95])
    by_pair = {i: c for (i, _, _), c in zip(pairs, verify_pairs(items, pairs, progress=False), strict=True)}
    assert all(by_pair[i].probability > 0.5 for i in (1, 2, 4)) and by_pair[3].probability < 0.1
    assert by_pair[2].mirrored and by_pair[2].what == "mirrored" and not by_pair[1].mirrored
    assert by_pair[4].what == "resized"


def test_what_cannot_be_read_is_the_same_as_nothing(tmp_path):
    items = write(tmp_path, {"a.png": scene(1), "b.png": scene(1), "c.png": scene(2)})
    (tmp_path / "b.png").write_bytes(b"no picture")
    (tmp_path / "c.png").unlink()
    for found in verify_pairs(items, Pairs.of([1, 2, 2], [0, 0, 1], [0.9, 0.9, 0.9]), progress=False):
        assert found == (0.0, "similar", "", None, False)


def test_pairs_keep_their_order_and_processes_change_nothing(tmp_path, monkeypatch):
    pictures = {
        f"{k}{c}.png": im
        for k in range(4)
        for c, im in enumerate([scene(k), crop(scene(k)), recolour(scene(k))])
    }
    items = write(tmp_path, pictures)
    i, j = np.tril_indices(len(items), -1)
    pairs = Pairs.of(i, j, np.random.default_rng(0).uniform(0.6, 0.95, len(i)))
    before = cv2.getNumThreads()
    told = {}

    def done(places, checks):
        told.update(zip(places.tolist(), checks, strict=True))

    one = verify_pairs(items, pairs, num_workers=0, progress=False)
    assert one == verify_pairs(items, pairs, num_workers=2, progress=False, done=done)
    assert [told[k] for k in range(len(pairs))] == one
    with monkeypatch.context() as full:  # no room to look before the processes are forked
        full.setattr("imgclean.find.verify.Album.fill", lambda *_: None)
        assert one == verify_pairs(items, pairs, num_workers=1, progress=False)
    assert cv2.getNumThreads() == before
    truth = pairs.i // 3 == pairs.j // 3
    assert [c.probability > 0.5 for c in one] == truth.tolist()
    again = checked(pairs, one)
    assert (again.i[: truth.sum()] // 3 == again.j[: truth.sum()] // 3).all() and again.score.max() <= 1
    assert all(c.grade in GRADES for c in one)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks, and tells when a thread is gone")
def test_no_thread_is_taking_its_leave_when_processes_are_forked(tmp_path, monkeypatch):
    # The system calls `usleep` as each thread ends: Python takes it for finished, and it lives for .2 s.
    libc, key = ctypes.CDLL(None), ctypes.c_uint()
    assert not libc.pthread_key_create(ctypes.byref(key), libc.usleep)
    libc.pthread_setspecific.argtypes = (ctypes.c_uint, ctypes.c_void_p)
    threads = set()

    def slow_to_leave(album, k):
        threads.add(threading.get_native_id())
        libc.pthread_setspecific(key, 200_000)

    monkeypatch.setattr("imgclean.find.verify.Album._view", slow_to_leave)
    try:
        Album(write(tmp_path, {"a.png": scene(1), "b.png": scene(2)})).fill([0, 1], 2, False)
        alive = {int(t) for t in os.listdir("/proc/self/task")}
    finally:
        libc.pthread_key_delete(key)
    assert threads and not threads & alive


def test_an_album_is_opened_once(tmp_path, monkeypatch):
    items = write(tmp_path, {f"{k}.png": scene(k) for k in range(3)} | {"3.png": crop(scene(1))})
    pairs, opened = Pairs.of([1, 2, 3], [0, 0, 1], [0.7, 0.6, 0.9]), []
    slow = verify_pairs(items, pairs, progress=False)

    def count(path, *size):
        opened.append(path)
        return open_image(path, *size)

    monkeypatch.setattr("imgclean.find.verify.open_image", count)
    album = Album(items)
    assert [verify_pairs(items, pairs, progress=False, album=album) for _ in range(2)] == [slow, slow]
    assert len(opened) == 4


def test_no_pairs_and_wrong_pairs(tmp_path):
    items = write(tmp_path, {"a.png": scene(1), "b.png": scene(2)})
    none = Pairs.of([], [], [])
    assert verify_pairs(items, none, progress=False) == [] and len(checked(none, [])) == 0
    with pytest.raises(IndexError, match="image 5 of 2"):
        verify_pairs(items, Pairs.of([5], [0], [0.9]), progress=False)
    with pytest.raises(ValueError, match="0 checks of 1 pairs"):
        checked(Pairs.of([1], [0], [0.9]), [])


def test_the_samples_copies_are_found_and_named(sample):
    items = Items.from_folder(sample.path)
    row = {items.relpath(k): k for k in range(len(items))}
    named = [p.files for p in sample.planted if len(p.files) > 1]
    both = [sorted((row[f] for f in files), reverse=True)[:2] for files in named]
    pairs = Pairs.of([b[0] for b in both], [b[1] for b in both], [0.9] * len(both))
    for (i, j, _), found in zip(pairs, verify_pairs(items, pairs, progress=False), strict=True):
        assert found.probability > 0.5, (items.relpath(i), items.relpath(j))


# The parts.
