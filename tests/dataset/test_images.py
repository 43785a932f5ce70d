import io
import subprocess
import sys

import numpy as np
import PIL
import pytest
from pictures import picture
from PIL import Image

from imgclean.dataset import images
from imgclean.dataset.facts import with_frames_noted
from imgclean.dataset.images import (
    UnreadableImage,
    image_extensions,
    image_size,
    open_image,
    reading_errors,
)
from imgclean.dataset.items import Items


def mean(im):
    return np.asarray(im, dtype=float).mean((0, 1))


def test_endings_are_of_images_only():
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tiff", ".gif"} <= image_extensions()
    assert not {".h5", ".mpg", ".pdf", ".eps", ".txt"} & image_extensions()


def test_exif_orientation_is_applied(tmp_path):
    im = picture(1, (60, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    im.save(tmp_path / "turned.jpg", exif=exif, quality=98, subsampling=0)
    shown = open_image(tmp_path / "turned.jpg")
    assert shown.size == (40, 60) == image_size(tmp_path / "turned.jpg")
    expected = np.asarray(im.transpose(Image.Transpose.ROTATE_270), dtype=float)
    assert np.abs(np.asarray(shown, dtype=float) - expected).mean() < 6


def test_transparency_is_shown_over_white(tmp_path):
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("LA", (9, 9), (0, 128)).save(tmp_path / "half.png")
    palette = Image.new("P", (9, 9), 0)
    palette.putpalette([200, 10, 10, 0, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=0)
    assert mean(open_image(tmp_path / "clear.png")).tolist() == [255, 255, 255]
    assert mean(open_image(tmp_path / "half.png"))[0] == pytest.approx(127, abs=1)
    assert mean(open_image(tmp_path / "palette.png")).tolist() == [255, 255, 255]


def test_16_bit_greys_are_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    Image.fromarray(ramp).save(tmp_path / "deep.tiff")
    Image.fromarray(np.linspace(-1, 1, 64 * 64, dtype=np.float32).reshape(64, 64)).save(
        tmp_path / "float.tiff"
    )
    for name in ("deep.png", "deep.tiff", "float.tiff"):
        shown = np.asarray(open_image(tmp_path / name))
        assert shown.shape == (64, 64, 3)
        assert shown.mean() == pytest.approx(127.5, abs=1) and shown.min() == 0 and shown.max() == 255


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_greys_fill_the_range_that_their_camera_has(tmp_path, bits):
    ramp = np.linspace(0, 2**bits - 1, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    shown = np.asarray(open_image(tmp_path / "deep.png"))
    assert shown.min() == 0 and shown.max() == 255 and shown.mean() == pytest.approx(127.5, abs=1)


reads_its_own_ycbcr = pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13, reason="Pillow 12 cannot read the YCbCr TIFF that it writes"
)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", pytest.param("YCbCr", marks=reads_its_own_ycbcr)])
def test_other_modes_become_rgb(tmp_path, mode):
    picture(2).convert(mode).save(tmp_path / "im.tiff")
    im = open_image(tmp_path / "im.tiff")
    assert im.mode == "RGB" and im.size == (96, 80)


def test_cmyk_jpeg_keeps_its_colours(tmp_path):
    Image.new("RGB", (32, 32), (200, 40, 40)).convert("CMYK").save(tmp_path / "c.jpg", quality=95)
    assert np.abs(mean(open_image(tmp_path / "c.jpg")) - (200, 40, 40)).max() < 8


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert mean(open_image(tmp_path / "a.gif")).tolist() == [255, 0, 0]


def test_reduced_decoding_keeps_the_size_asked_for(tmp_path):
    picture(3, (1600, 1200)).save(tmp_path / "big.jpg")
    im = open_image(tmp_path / "big.jpg", size=200)
    assert 200 <= min(im.size) < 1200


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("text.jpg", b"I am no image", "not an image"),
        ("empty.jpg", b"", "empty"),
        ("gone.jpg", None, "does not exist"),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableImage, match=reason):
        open_image(tmp_path / name)
    with pytest.raises(UnreadableImage, match=reason):
        image_size(tmp_path / name)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "gif", "bmp"])
def test_a_truncated_file_is_refused(tmp_path, ending):
    picture(4, (200, 200)).save(tmp_path / f"whole.{ending}")
    data = (tmp_path / f"whole.{ending}").read_bytes()
    (tmp_path / f"cut.{ending}").write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableImage) as err:
        open_image(tmp_path / f"cut.{ending}")
    assert "\n" not in str(err.value) and len(str(err.value)) < 200


def test_a_folder_with_an_images_name_is_refused(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(UnreadableImage, match="directory"):
        open_image(tmp_path / "folder.jpg")


def test_files_that_cannot_be_read_are_told_by_place(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "empty.png").write_bytes(b"")
    paths = [tmp_path / name for name in ("empty.png", "good.png", "gone.png")]
    assert reading_errors(paths) == {0: "the file is empty", 2: "the file does not exist"}


def test_formats_that_need_a_plugin_are_opened_where_it_is_installed(tmp_path):
    heif = pytest.importorskip(
        "pillow_heif", reason="pillow-heif is not installed; pip install imgclean[formats]"
    )
    heif.from_pillow(picture(1)).save(tmp_path / "1.heic")
    code = "import sys; from imgclean.dataset.images import open_image; print(open_image(sys.argv[1]).size)"
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "1.heic")], capture_output=True, text=True
    )
    assert run.stdout.strip() == "(96, 80)", run.stderr
    assert (
        np.abs(np.asarray(open_image(tmp_path / "1.heic")) - np.asarray(picture(1), dtype=float)).mean() < 8
    )
    assert open_image(io.BytesIO((tmp_path / "1.heic").read_bytes())).size == (96, 80)


def test_jpeg_xl_and_avif_are_opened(tmp_path):
    pytest.importorskip(
        "pillow_jxl", reason="pillow-jxl-plugin is not installed; pip install imgclean[formats]"
    )
    for name in ("1.jxl", "1.avif"):
        picture(1).save(tmp_path / name)
        assert open_image(tmp_path / name).size == (96, 80) and image_size(tmp_path / name) == (96, 80)


def test_without_the_plugin_a_file_is_listed_with_what_to_install(tmp_path, monkeypatch):
    for name in ("1.heic", "1.jxl", "1.HIF"):
        (tmp_path / name).write_bytes(b"what Pillow does not know")
    assert {".heic", ".hif", ".jxl", ".avif"} <= image_extensions()
    monkeypatch.setattr(images, "_plugins", lambda: False)
    monkeypatch.setattr(images, "find_spec", lambda name: None)
    items = Items.from_folder(tmp_path)
    errors = images.reading_errors(items.paths)
    needs = [f"{name} needs a plugin: pip install imgclean[formats]" for name in ("HEIC", "HEIC", "JPEG XL")]
    assert [errors[k] for k in range(3)] == needs
    monkeypatch.setattr(images, "find_spec", lambda name: object())
    assert images.reading_errors(items.paths)[0] == "not an image that Pillow can read"


def test_frames_are_counted_where_a_format_has_them(tmp_path):
    frames = [picture(k) for k in range(4)]
    for ending in ("gif", "webp", "tiff", "png", "avif"):
        frames[0].save(tmp_path / f"{ending}.{ending}", save_all=True, append_images=frames[1:])
        frames[0].save(tmp_path / f"still-{ending}.{ending}")
    frames[0].save(tmp_path / "x.jpg")
    (tmp_path / "broken.gif").write_bytes(b"GIF89a")
    frames[0].save(tmp_path / "profile.png", icc_profile=np.random.default_rng(1).bytes(9000))
    items = with_frames_noted(Items.from_folder(tmp_path))
    counts = {items.paths[k].name: n for k, n in images.frame_counts(items.paths).items()}
    assert counts == {f"{e}.{e}": 4 for e in ("avif", "gif", "png", "tiff", "webp")}
    note = "5 files hold several frames, of which the first alone is looked at: avif.avif (4), gif.gif (4), "
    assert items.notes[0].startswith(note) and len(items.notes) == 1
    assert (
        items.subset([0]).notes == items.notes and with_frames_noted(Items.from_paths(["x.jpg"])).notes == ()
    )
    assert np.array_equal(np.asarray(open_image(tmp_path / "tiff.tiff")), np.asarray(frames[0]))
