import numpy as np
import pytest
from pictures import picture
from PIL import Image

from imgclean.dataset.images import (
    UnreadableImage,
    image_extensions,
    image_size,
    open_image,
    reading_errors,
)


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


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
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
