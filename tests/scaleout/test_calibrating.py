import numpy as np
import pytest

pytest.importorskip("ray.data", reason="Ray Data is not installed; pip install 'imgclean[ray]'")

from fakes import names, write_embeddings
from pictures import picture

from imgclean.cascade import find_duplicates
from imgclean.dataset.images import open_image
from imgclean.dataset.items import Items
from imgclean.scaleout.calibrating import _nearest, from_json, learn_cut
from imgclean.scaleout.images import Images
from imgclean.scaleout.tables import number_rows

N = 30


def look(items: Items):
    "Vectors of 6 x 4 squares of colour."
    squares = [np.asarray(open_image(path).resize((6, 4)), dtype=np.float32).ravel() for path in items.paths]
    return np.stack(squares), items


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for k, name in enumerate(names(N)):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(k % 25, (160, 120)).resize((160 + 8 * (k // 25), 120)).save(path)
    items = Items.from_folder(folder / "images")
    numbering = number_rows(write_embeddings(folder / "embeddings", names(N), look(items)[0]))
    return items, numbering


def test_what_is_learnt_is_what_one_machine_learns(photos, small_ray, tmp_path):
    items, numbering = photos
    one = find_duplicates(*look(items), look, min_precision=0.9, num_workers=0, progress=False)
    said = learn_cut(
        numbering, tmp_path, one.candidates, Images(items.root), look, min_precision=0.9
    )  # fmt: skip
    found = from_json(said)
    assert found.edits == one.calibration.edits and found.cut == pytest.approx(one.calibration.cut, abs=1e-3)
    np.testing.assert_allclose(found.same, one.calibration.same, atol=1e-4)
    assert abs(len(found.other) - len(one.calibration.other)) <= 2  # the last of the nearest may tie

    def never(items):
        raise AssertionError("it was learnt already")

    again = learn_cut(numbering, tmp_path, one.candidates, Images(items.root), never, min_precision=0.9)
    assert again == said


def test_too_few_images_teach_nothing(photos, small_ray, tmp_path):
    items, numbering = photos
    few = items.subset([0, 1, 2])
    numbering = number_rows(write_embeddings(tmp_path / "e", names(3), look(few)[0]))
    one = find_duplicates(*look(few), look, num_workers=0, progress=False)
    assert learn_cut(numbering, tmp_path, one.candidates, Images(items.root), look, min_precision=0.9) is None


def test_copies_are_compared_with_the_rows_of_every_file(photos, small_ray):
    items, numbering = photos
    x = look(items)[0]
    copies = x[[3, 20]] + 1
    copy, row = _nearest(copies, numbering, None)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    wanted = np.argsort(-(copies @ unit.T), axis=1, kind="stable")[:, :4]
    assert {(int(c), int(r)) for c, r in zip(copy, row, strict=True)} == {
        (c, int(r)) for c in (0, 1) for r in wanted[c]
    }
