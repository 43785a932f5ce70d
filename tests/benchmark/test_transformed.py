import json
from random import Random

import numpy as np
from pictures import picture, write_pictures
from PIL import Image
from typer.testing import CliRunner

from imgclean.benchmark.__main__ import app
from imgclean.benchmark.transformed import _edits, write_transformed
from imgclean.dataset.items import Items


def test_the_five_edits():
    im = picture(1, (640, 480))
    whole = np.asarray(im)
    edits = {name: np.asarray(copy) for name, copy in _edits(im, Random(0)).items()}
    crop = edits["crop"]
    assert crop.shape == (420, 560, 3)
    places = [(y, x) for y in range(61) for x in range(81) if (whole[y : y + 420, x : x + 560] == crop).all()]
    assert places
    assert (edits["horizontal flip"] == whole[:, ::-1]).all()
    assert (edits["vertical flip"] == whole[::-1]).all()
    assert edits["resize to square"].shape == (480, 480, 3)
    assert (np.asarray(_edits(im, Random(1))["crop"]) != crop).any()


def test_the_rotation_is_by_25_degrees_about_the_centre():
    im = Image.new("RGB", (640, 480), "grey")
    im.paste("white", (415, 235, 426, 246))  # 100 pixels right of the centre
    turned = np.asarray(_edits(im, Random(0))["rotation by 25"])
    assert turned.shape == (480, 640, 3) and not turned[0, 0].any()
    y, x = np.argwhere((turned > 200).all(-1)).mean(0)
    assert (
        abs(x - 320 - 100 * np.cos(np.radians(25))) < 1.5
        and abs(240 - y - 100 * np.sin(np.radians(25))) < 1.5
    )


def test_each_picture_is_written_six_times(tmp_path):
    write_pictures(tmp_path / "in", ["a/x.png", "b/x.jpg"], [1, 2])
    (tmp_path / "in/broken.jpg").write_bytes(b"no image")
    (tmp_path / "out").mkdir()
    rows = write_transformed(Items.from_folder(tmp_path / "in"), tmp_path / "out", seed=0)
    assert {p.name for p in (tmp_path / "out").iterdir()} == set(rows) and len(rows) == 12
    originals = {group: name for name, (group, edit) in rows.items() if edit == "original"}
    assert set(originals) == {"a/x.png", "b/x.jpg"}
    for group, name in originals.items():
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "in" / group).read_bytes()
        assert sum(g == group for g, _ in rows.values()) == 6
    mirrored = np.asarray(Image.open(tmp_path / "out/00000_horizontal_flip.jpg")).astype(int)
    assert (
        np.abs(mirrored[:, ::-1] - np.asarray(picture(1))).mean() < 10 < np.abs(mirrored - picture(1)).mean()
    )


def test_transformed_prints_json(tmp_path):
    write_pictures(tmp_path, ["a.jpg", "b.jpg", "c.jpg"], [1, 2, 3])
    before = sorted(tmp_path.iterdir())
    found = json.loads(CliRunner().invoke(app, ["transformed", str(tmp_path)]).stdout)
    assert (
        found["images"] == 18 and found["ours"]["true_pairs"] == 45 and sorted(tmp_path.iterdir()) == before
    )
    assert {name: of[1] for name, of in found["ours"]["recall_by_edit"].items()} == dict.fromkeys(
        ["crop", "horizontal flip", "resize to square", "rotation by 25", "vertical flip"], 3
    )
