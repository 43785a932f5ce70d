import subprocess
import sys

import numpy as np
import pytest
from pictures import picture
from PIL import Image

from imgclean.dataset.cleaned import content_digest
from imgclean.dataset.items import Items
from imgclean.features.hashes import ORIENTATIONS, hash_items, is_plain, perceptual_hash, pixel_digest

TURN = Image.Transpose
PINNED_HASHES = ["09191919b3b3e34a", "a3b3b3b3191949e0"]
PINNED_DIGEST = "33f7549e1104ace9432a6b879c0cb427"


def turned(image, orientation):
    for on, how in zip(
        orientation, (TURN.TRANSPOSE, TURN.FLIP_TOP_BOTTOM, TURN.FLIP_LEFT_RIGHT), strict=True
    ):
        image = image.transpose(how) if on else image
    return image


def slow_hash(grey):  # (32, 32) -> 64 signs
    "The cosine sums of the textbook, one frequency after the other."
    x = (np.arange(32) + 0.5) * np.pi / 32
    return [
        float((grey * np.cos(v * x)[:, None] * np.cos(u * x)).sum()) > 1e-3
        for v in range(1, 9)
        for u in range(1, 9)
    ]


def bits(word):
    return np.unpackbits(np.array([word], dtype=">u8").view(np.uint8)).astype(bool)


def distance(a, b):
    return int((bits(a) != bits(b)).sum())


@pytest.mark.parametrize("seed", range(3))
def test_all_orientations_of_one_dct_equal_hashing_each_turned_image(seed):
    noise = np.random.default_rng(seed).integers(0, 256, (32, 32), dtype=np.uint8)
    image = Image.fromarray(noise)
    hashes = perceptual_hash(image)
    assert hashes.shape == (8,) and hashes.dtype == np.uint64 and len(set(hashes.tolist())) == 8
    for orientation, word in zip(ORIENTATIONS, hashes, strict=True):
        other = turned(image, orientation)
        assert bits(word).tolist() == slow_hash(np.asarray(other, dtype=float))
        assert perceptual_hash(other)[0] == word
        assert set(perceptual_hash(other).tolist()) == set(hashes.tolist())


def test_it_does_not_matter_which_of_two_pictures_is_turned():
    a, b = (perceptual_hash(picture(seed)) for seed in (1, 2))
    assert sorted(distance(a[0], w) for w in b) == sorted(distance(b[0], w) for w in a)


def test_edits_change_few_bits_and_other_pictures_many():
    image = picture(3, (160, 128))
    word = perceptual_hash(image)[0]
    edits = [image.resize((60, 48)), image.convert("L"), image.point(lambda v: v * 0.8 + 20)]
    assert max(distance(word, perceptual_hash(e)[0]) for e in edits) <= 6
    others = [distance(word, w) for seed in range(4, 20) for w in perceptual_hash(picture(seed, (160, 128)))]
    assert min(others) > 10


def test_hashes_do_not_change_from_version_to_version():
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    image = Image.fromarray(((x * 7 + y * y // 3) % 256).astype(np.uint8))
    assert [f"{word:016x}" for word in perceptual_hash(image)[:2]] == PINNED_HASHES
    assert pixel_digest(image).hex() == PINNED_DIGEST


def test_pixel_digests_tell_pixels_and_size_and_nothing_else(tmp_path):
    image = picture(1)
    exif = Image.Exif()
    exif[0x010E] = "a description"
    image.save(tmp_path / "0.png", compress_level=1)
    image.save(tmp_path / "1.png", compress_level=9, exif=exif)
    image.save(tmp_path / "2.webp", lossless=True)
    turned_exif = Image.Exif()
    turned_exif[0x0112] = 6  # to be shown turned by 90 degrees
    image.transpose(TURN.ROTATE_90).save(tmp_path / "3.png", exif=turned_exif)
    image.save(tmp_path / "4.jpg")
    hashes = hash_items(Items.from_folder(tmp_path), progress=False)
    assert len(set(hashes.content)) == 5
    assert len({hashes.pixels[k] for k in (0, 1, 2, 3)}) == 1 and hashes.pixels[4] != hashes.pixels[0]
    assert pixel_digest(image) == hashes.pixels[0]
    flat = Image.new("RGB", (4, 6))
    assert pixel_digest(flat) != pixel_digest(flat.resize((6, 4)))  # as many zeros


def test_plain_pictures_have_no_hash(tmp_path):
    for k, colour in enumerate(("white", "black", "red", (128, 129, 127))):
        Image.new("RGB", (40, 30), colour).save(tmp_path / f"{k}.png")
    paper = np.random.default_rng(0).normal(250, 1.5, (300, 200, 3)).clip(0, 255).astype(np.uint8)
    Image.fromarray(paper).save(tmp_path / "4.png")
    picture(1).save(tmp_path / "5.png")
    assert hash_items(Items.from_folder(tmp_path), progress=False).plain.tolist() == [True] * 5 + [False]
    assert is_plain(Image.new("L", (5, 5), 7)) and not is_plain(picture(1))


def test_unreadable_files_get_none_and_no_exception(tmp_path):
    picture(1).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"")
    (tmp_path / "c.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:700])
    picture(2, (300, 300)).save(tmp_path / "d.png")
    items = Items.from_folder(tmp_path)
    (tmp_path / "e.png").write_text("gone")
    hashes = hash_items(items, progress=False, max_pixels=200 * 200, num_workers=2)
    assert hashes.content == [content_digest(tmp_path / "a.jpg"), None, None, None]
    assert [d is None for d in hashes.pixels] == [False, True, True, True]
    assert hashes.plain.tolist() == [False, True, True, True] and not hashes.perceptual[1:].any()
    (tmp_path / "a.jpg").unlink()
    assert hash_items(items, progress=False).content[0] is None


def test_threads_and_reduced_decoding_change_little(tmp_path):
    for seed in range(12):
        picture(seed, (400, 300)).save(tmp_path / f"{seed:02}.jpg", quality=92)
    items = Items.from_folder(tmp_path)
    one, four = (hash_items(items, num_workers=n, progress=False) for n in (1, 4))
    assert one.pixels == four.pixels and one.content == four.content and len(one) == 12
    np.testing.assert_array_equal(one.perceptual, four.perceptual)
    fast = hash_items(items, pixels=False, progress=False)
    assert fast.pixels == [None] * 12 and fast.content == one.content
    assert max(distance(a, b) for a, b in zip(fast.perceptual[:, 0], one.perceptual[:, 0], strict=True)) <= 6
    np.testing.assert_array_equal(perceptual_hash(Image.open(items.paths[3])), one.perceptual[3])


def test_no_items_no_hashes(tmp_path):
    picture(1).save(tmp_path / "a.png")
    hashes = hash_items(Items.from_folder(tmp_path).subset([]), progress=False)
    assert len(hashes) == 0 and hashes.perceptual.shape == (0, 8)


def test_hashes_need_no_torch():
    code = "import sys, imgclean.features.hashes; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
    )
