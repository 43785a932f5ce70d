from random import Random

import numpy as np
import pytest
from pictures import picture
from PIL import Image

from imgclean.dataset.edits import EDITS, edited, plant
from imgclean.dataset.images import open_image
from imgclean.dataset.items import Items


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("size", [(300, 200), (32, 32), (3, 50)])
def test_each_edit_changes_the_picture_and_not_the_original(name, size):
    im = picture(1, (300, 200)).resize(size)
    before = im.tobytes()
    copy = EDITS[name](im, Random(1))
    assert im.tobytes() == before and copy.mode == "RGB"
    if (name, size) == ("squeezed", (32, 32)):  # a square is one already
        return
    assert copy.size != im.size or not np.array_equal(np.asarray(copy), np.asarray(im))
    again = EDITS[name](im, Random(1))
    assert again.size == copy.size and again.tobytes() == copy.tobytes()


def test_all_families_occur_and_some_together():
    im, rng = picture(1, (40, 30)), Random(0)
    what = [edited(im, rng).what for _ in range(400)]
    assert {name for w in what for name in w.split(" + ")} == set(EDITS)
    several = [w for w in what if "+" in w]
    assert 30 < len(several) < 90 and {len(w.split(" + ")) for w in several} == {2, 3}


def test_geometry_is_what_its_name_says():
    im = Image.new("RGB", (60, 40))
    im.paste((255, 0, 0), (0, 0, 10, 10))
    assert EDITS["mirrored"](im, Random(0)).getpixel((55, 5)) == (255, 0, 0)
    assert EDITS["upside down"](im, Random(0)).getpixel((5, 35)) == (255, 0, 0)
    assert EDITS["quarter turn"](im, Random(0)).size == (40, 60)
    assert EDITS["squeezed"](im, Random(0)).size == (40, 40)
    w, h = EDITS["cropped"](im, Random(0)).size
    assert 0.55 < w / 60 < 0.9 and 0.55 < h / 40 < 0.9


def test_planted_copies_know_their_source(shop, tmp_path):
    (shop / "cat/broken.jpg").write_bytes(b"no image")
    items, folder = Items.from_folder(shop), tmp_path / "planted"
    folder.mkdir()
    before = {p: p.read_bytes() for p in shop.rglob("*") if p.is_file()}
    copies = plant(items, 5, folder, seed=3)
    assert len(copies.items) == len(copies.edits) == len(set(copies.sources.tolist())) == 5
    for k, source in enumerate(copies.sources):
        im, copy = open_image(items.paths[source]), open_image(copies.items.paths[k])
        assert copy.size != im.size or copy.tobytes() != im.tobytes()
    again = plant(items, 5, tmp_path, seed=3)
    assert again.edits == copies.edits and (again.sources == copies.sources).all()
    assert again.items.paths[0].read_bytes() == copies.items.paths[0].read_bytes()
    assert len(plant(items, 100, tmp_path, skip=[0, 1]).items) == 6  # of nine, two skipped, one unreadable
    assert {p: p.read_bytes() for p in before} == before
