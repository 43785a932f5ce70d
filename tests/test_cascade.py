import json
import os
import pickle
import re
import sqlite3
import tempfile
from contextlib import closing

import numpy as np
import pytest
from pictures import picture, write_pictures
from PIL import Image
from typer.testing import CliRunner

from imgclean import checks as remembering
from imgclean.cascade import NoPictures, find_duplicates
from imgclean.cli import app
from imgclean.dataset.items import Items
from imgclean.find.verify import verify_pairs
from imgclean.formatter import DatasetFormatter, _verified_or_alike, verified_groups_of


def by_files(ds, pairs, values):
    "The two files of each pair -> its value."
    return {
        frozenset((ds.relpath(i), ds.relpath(j))): value
        for (i, j, _), value in zip(pairs, values, strict=True)
    }


def planted_files(sample):
    return {p.what: frozenset(p.files) for p in sample.planted}


def test_the_planted_duplicates_are_found_and_nothing_else(sample, found):
    ds, idxs = found
    groups = {frozenset(ds.relpath(k) for k in group) for group in idxs}
    assert groups == {frozenset(p.files) for p in sample.planted if len(p.files) > 1}
    assert all(p >= idxs.settings["cut"] for p in idxs.pairs.score)
    assert idxs.settings["min_precision"] == 0.99 and {"look", "check", "calibrate"} <= idxs.seconds.keys()


def test_what_was_done_is_told(sample, found):
    ds, idxs = found
    what, planted = by_files(ds, idxs.pairs, idxs.found.checks), planted_files(sample)
    assert what[frozenset(("object/cup.jpg", "object/coffee.jpg"))].grade == "exact"
    assert what[planted["mirrored"]].mirrored and "mirrored" in what[planted["mirrored"]].what
    assert "resized" in what[planted["half the size"]].what
    assert what[planted["re-encoded"]].grade == "re-encoded"


def test_the_calibration_is_of_these_images(sample, found):
    ds, idxs = found
    calibration = idxs.found.calibration
    assert len(calibration.same) == len(ds) and sum(n for _, n in calibration.by_edit.values()) == len(ds)
    assert calibration.precision.value >= 0.99 and calibration.recall.value > 0.5
    # What was planted from one of five equal cups resembles the other four, which are no other pictures.
    assert (calibration.other < 0.5).mean() > 0.99


def test_a_strict_cut_changes_no_embedding_and_takes_no_more(sample, found):
    _, strict = DatasetFormatter.from_similars(sample.path, min_precision=1.0, progress=False)
    assert {(i, j) for i, j, _ in strict.pairs} <= {(i, j) for i, j, _ in found[1].pairs}
    assert [p for p in strict.found.candidates] == [p for p in found[1].found.candidates]


def test_stages_are_named(sample, found):
    ds, idxs = found
    stage, planted = by_files(ds, idxs.pairs, idxs.found.stages), planted_files(sample)
    assert stage[frozenset(("object/cup.jpg", "object/coffee.jpg"))] == "exact"
    assert stage[planted["mirrored"]] == stage[planted["half the size"]] == "perceptual"
    assert {"exact", "perceptual"} <= {*stage.values()} <= {"exact", "perceptual", "neighbours", "linked"}


def test_copies_that_only_a_third_links_are_paired(tmp_path):
    for k in range(30):
        picture(k + 10, (220, 160)).save(tmp_path / f"{k:02}.png")
    whole = picture(5, (480, 320))
    for name, box in (("left", (0, 0, 380, 320)), ("whole", (0, 0, 480, 320)), ("right", (100, 0, 480, 320))):
        whole.crop(box).save(tmp_path / f"w_{name}.png")
    items = Items.from_folder(tmp_path)
    left, right, whole = 30, 31, 32
    angle = np.linspace(2, 3, 33)
    angle[[left, whole, right]] = 0.0, 0.5, 1.0
    angle[:10] = [
        -0.1,
        -0.11,
        -0.12,
        -0.13,
        -0.14,
        1.1,
        1.11,
        1.12,
        1.13,
        1.14,
    ]  # nearer to left, and to right
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found = find_duplicates(vectors, items, lambda more: (vectors[[0] * len(more)], more), progress=False)
    stages = dict(zip([(i, j) for i, j, _ in found.pairs], found.stages, strict=True))
    assert stages == {(32, 30): "neighbours", (32, 31): "neighbours", (31, 30): "linked"}


def test_equal_files_are_found_whatever_their_vectors(tmp_path):
    write_pictures(tmp_path, [f"{k}.png" for k in range(9)], [1, 2, 3, 4, 5, 6, 7, 8, 1])
    items = Items.from_folder(tmp_path)
    vectors = np.eye(9, dtype=np.float32)
    found = find_duplicates(vectors, items, lambda more: (np.eye(9)[[0] * len(more)], more), progress=False)
    assert [(i, j) for i, j, _ in found.pairs] == [(8, 0)] and found.stages == ["exact"]


def test_no_image_and_too_few_vectors(tmp_path):
    none = Items((), (), (), tmp_path)
    assert verified_groups_of(np.zeros((0, 4)), none, None, progress=False) == []
    write_pictures(tmp_path, ["a.png", "b.png"], [1, 2])
    with pytest.raises(ValueError, match="there are 1 vectors for 2 images"):
        verified_groups_of(np.zeros((1, 4)), Items.from_folder(tmp_path), None, progress=False)


def test_a_dot_and_a_thread_of_pixels_stop_nothing(tmp_path):
    write_pictures(tmp_path, [f"{k}.png" for k in range(6)], [1, 2, 3, 4, 5, 1])
    for k in range(9):
        Image.new("RGB", (1, 1 + 300 * (k % 2)), (k, 0, 0)).save(tmp_path / f"dot{k}.png")
    items = Items.from_folder(tmp_path)
    vectors = np.random.default_rng(0).normal(size=(len(items), 20)).astype(np.float32)
    found = find_duplicates(vectors, items, lambda more: (vectors[: len(more)], more), progress=False)
    assert (5, 0) in {(i, j) for i, j, _ in found.pairs}


def test_files_that_cannot_be_opened_are_counted_and_temporary_ones_forgotten(tmp_path, caplog):
    write_pictures(tmp_path / "a", [f"{k}.png" for k in range(12)], [*range(11), 1])
    (tmp_path / "a" / "b.npy").write_bytes(b"no picture")
    paths = tuple(sorted((tmp_path / "a").iterdir()))
    items = Items(paths, (None,) * 13, (None,) * 13, tmp_path / "a")
    vectors = np.random.default_rng(0).normal(size=(13, 20)).astype(np.float32)
    find_duplicates(
        vectors, items, lambda more: (vectors[: len(more)], more), cache=tmp_path / "c", progress=False
    )
    assert "1 of 13 files cannot be opened as pictures" in caplog.text
    with closing(sqlite3.connect(tmp_path / "c" / "embeddings.sqlite")) as db:
        known = [os.fsdecode(name) for (name,) in db.execute("select path from files")]
    assert known and all(name.startswith(str(tmp_path / "a")) for name in known)


def test_groups_of_a_second_look_can_be_pickled(found):
    again = pickle.loads(pickle.dumps(found[1]))
    assert again == found[1] and again.found.cut == found[1].found.cut and again.regroup is None


def test_a_second_run_looks_at_no_pair_again(shop, tmp_path, monkeypatch):
    first = DatasetFormatter.from_similars(shop, progress=False, cache=tmp_path / "cache")[1]
    asked = []

    def count(items, pairs, **settings):
        asked.append(len(pairs))
        return verify_pairs(items, pairs, **settings)

    monkeypatch.setattr(remembering, "verify_pairs", count)
    again = DatasetFormatter.from_similars(shop, min_precision=0.9, progress=False, cache=tmp_path / "cache")[
        1
    ]
    assert sum(asked) == 0 and len(asked) >= 2 and first == again
    assert again.found.calibration is None or again.found.calibration.min_precision == 0.9


def test_files_that_are_no_pictures_are_grouped_by_cosine(tmp_path, caplog):
    for k in range(4):
        (tmp_path / f"{k}.npy").write_bytes(b"no picture")
    items = Items(tuple(sorted(tmp_path.glob("*.npy"))), (None,) * 4, (None,) * 4, tmp_path)
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 2]]
    with pytest.raises(NoPictures, match="none of the 4 files can be opened as a picture"):
        find_duplicates(vectors, items, None, progress=False)
    groups = _verified_or_alike(
        vectors, items, None, min_precision=None, keep="best", protect=(), progress=False
    )
    assert [tuple(g) for g in groups] == [(0, 1)] and "now those of a cosine of at least" in caplog.text
    with pytest.raises(NoPictures):
        _verified_or_alike(vectors, items, None, min_precision=0.9, keep="best", protect=(), progress=False)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_images_are_not_calibrated(tmp_path, n):
    write_pictures(tmp_path, [f"{k}.png" for k in range(n)], [1, 1, 2][:n])
    items, vectors = Items.from_folder(tmp_path), np.eye(3, dtype=np.float32)[[0, 0, 1]][:n]
    found = find_duplicates(vectors, items, lambda more: (np.eye(3)[: len(more)], more), progress=False)
    assert found.calibration is None and found.cut == 0.5
    assert [(i, j) for i, j, _ in found.pairs] == [(1, 0)][: n - 1]


def test_nothing_stays_behind(sample, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = sorted(p for p in sample.path.rglob("*") if p.is_file())
    DatasetFormatter.from_similars(sample.path, min_precision=0.9, progress=False)
    assert not [*tmp_path.iterdir()]
    assert sorted(p for p in sample.path.rglob("*") if p.is_file()) == before


def test_two_ways_to_cut_are_refused(shop):
    for other in ({"n": 3}, {"min_similarity": 0.9}, {"recipe": "article"}):
        with pytest.raises(ValueError, match="min_precision is given with n, min_similarity or recipe"):
            DatasetFormatter.from_similars(shop, min_precision=0.9, **other)
    with pytest.raises(ValueError, match="min_precision is 99; give a share"):
        DatasetFormatter.from_similars(shop, min_precision=99, progress=False)


def test_the_command_line_tells_what_to_expect(sample, tmp_path):
    out = tmp_path / "found.json"
    result = CliRunner().invoke(app, ["find", str(sample.path), "--json", str(out)])
    assert result.exit_code == 0 and "expected precision of the pairs" in result.stderr
    for stage in ("looked", "hashed", "tried edited copies", "compared", "looked again", "calibrated"):
        assert re.search(rf"\b{stage} \d+\.\d s", result.stderr), stage
    found = json.loads(out.read_text())
    assert found["settings"]["min_precision"] == 0.99
    cups = [p for p in found["pairs"] if p["grade"] == "exact"]
    assert len(cups) == 10 and all(p["similarity"] == 1 for p in cups)
    assert all(
        {"grade", "edited", "what", "stage"} <= pair.keys() and pair["edited"] in (pair["a"], pair["b"])
        for pair in found["pairs"]
    )
