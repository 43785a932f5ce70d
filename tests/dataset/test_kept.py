import io

import pytest
from packing import everything
from pictures import picture
from PIL import Image

from imgclean.dataset.images import open_image
from imgclean.dataset.kept import Contents, kept_folder, put_file


def test_pictures_are_written_without_loss_in_every_mode(tmp_path):
    rgb = picture(1)
    modes = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"]
    images = [rgb.convert("L").convert(mode) if mode == "I;16" else rgb.convert(mode) for mode in modes]
    images[-3] = Image.new("I", (3, 3), 100_000)
    paths = Contents(lambda: images).write(tmp_path / "out")
    for mode, image, path in zip(modes, images, paths, strict=True):
        with Image.open(path) as back:
            if mode in ("HSV", "YCbCr"):  # that no file format holds, or not with every Pillow
                image = image.convert("RGB")
            assert (back.mode, back.tobytes()) == (image.mode, image.tobytes()), mode


def test_turned_pictures_stay_turned(tmp_path):
    image = picture(1, (60, 40))
    image.getexif()[0x0112] = 6
    (path,) = Contents(lambda: [image]).write(tmp_path / "out")
    assert open_image(path).size == (40, 60)


def test_bytes_are_written_as_they_are(tmp_path):
    out = io.BytesIO()
    picture(1).save(out, "WEBP")
    paths = Contents(lambda: [out.getvalue(), b"no image", b""]).write(tmp_path / "out")
    assert [p.name for p in paths] == ["0.webp", "1.bin", "2.bin"]
    assert [p.read_bytes() for p in paths] == [out.getvalue(), b"no image", b""]


def test_the_same_content_has_the_same_folder_and_other_content_another(own_cache):
    one, two = [picture(1), picture(2)], [picture(2), picture(1)]
    first = Contents(lambda: one).write()
    assert first == Contents(lambda: list(one)).write() != Contents(lambda: two).write()
    assert all(p.is_relative_to(own_cache) for p in first)
    small = picture(1)
    small.info["transparency"] = (0, 0, 0)
    assert Contents(lambda: [small, picture(2)]).write() != first


def test_a_folder_is_there_in_full_or_not_at_all(tmp_path):
    def broken(folder):
        (folder / "half.png").write_bytes(b"")
        raise RuntimeError("out of space")

    with pytest.raises(RuntimeError):
        kept_folder("a", broken, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    (tmp_path / "out").mkdir()
    top = kept_folder("a", lambda f: (f / "1.png").write_bytes(b"1"), tmp_path / "out")
    was = everything(top)
    assert kept_folder("a", broken, top) == top and everything(top) == was and "1.png" in was
    with pytest.raises(FileExistsError, match="holds something else"):
        kept_folder("b", broken, top)
    assert everything(top) == was


def test_another_process_may_be_faster(tmp_path):
    def fill(folder):
        (folder / "1.png").write_bytes(b"1")

    def slow(folder):
        kept_folder("a", fill, tmp_path / "out")
        fill(folder)

    assert kept_folder("a", slow, tmp_path / "out") == tmp_path / "out"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_no_file_is_written_over_by_another(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    put_file(tmp_path / "a", tmp_path / "linked")
    with pytest.raises(FileExistsError):
        put_file(tmp_path / "b", tmp_path / "linked")
    assert [(tmp_path / name).read_text() for name in ("a", "b", "linked")] == ["a", "b", "a"]


def test_files_that_are_gone_are_written_again_and_no_other_one_is_touched(tmp_path):
    images = [picture(k) for k in range(3)]
    paths = Contents(lambda: images).write(tmp_path / "out")
    paths[0].unlink()
    paths[1].write_bytes(b"edited")
    (tmp_path / "out/.imgclean/review.jsonl").write_text("decided")
    was = everything(tmp_path)
    assert Contents(lambda: images).write(tmp_path / "out") == paths
    assert Image.open(paths[0]).tobytes() == images[0].tobytes()
    assert everything(tmp_path) == was | {"out/0.png": paths[0].read_bytes()}


def test_a_break_leaves_nothing_behind(tmp_path):
    def stopped(folder):
        (folder / "half.png").write_bytes(b"")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept_folder("a", stopped, tmp_path / "out")
    assert not list(tmp_path.iterdir())
