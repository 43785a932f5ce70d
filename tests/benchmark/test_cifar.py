import csv
import json

import numpy as np
import pytest
from pictures import picture
from typer.testing import CliRunner

from imgclean.benchmark.__main__ import app
from imgclean.benchmark.cifar import candidates, found
from imgclean.dataset.items import Items
from imgclean.find.pairs import Pairs

run = CliRunner()
NAMES = ["test/a.jpg", "test/b.jpg", "train/c.jpg", "train/d.jpg"]


@pytest.fixture
def cifar(tmp_path):
    "Six test and eight training images of 32 px; the first two test images have a copy among those, one of them cropped."
    for split, seeds in (("test", range(6)), ("train", (0, 1, *range(20, 26)))):
        for k, seed in enumerate(seeds):
            path = tmp_path / "data" / split / "thing" / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            im = picture(seed).resize((32, 32))
            if (split, k) == ("train", 1):
                im = im.crop((1, 1, 32, 32)).resize((32, 32))
            im.save(path)
    return tmp_path / "data"


def test_each_test_image_is_ranked_once_by_its_best_pair():
    pairs = Pairs.of([2, 3, 2], [0, 0, 1], [0.9, 0.8, 0.7])
    truth = {("test/b.jpg", "train/d.jpg")}  # the listed image counts, whatever its best pair is
    assert found(pairs, NAMES, truth)["found_in_300"] == 1
    assert found(pairs.top(2), NAMES, truth)["found_in_300"] == 0


def test_candidates_are_neighbours_by_vectors_or_by_pixels(cifar):
    items = Items.from_folder(cifar)
    vectors = np.random.default_rng(0).normal(size=(len(items), 5)).astype(np.float32)
    pairs = candidates(items, vectors, 1)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    got = {(j, i): s for i, j, s in pairs}
    train = [k for k in range(len(items)) if items.splits[k] == "train"]
    for k in range(len(items)):
        if items.splits[k] == "test":
            best = max(train, key=lambda other: unit[k] @ unit[other])
            assert got[k, best] == pytest.approx(unit[k] @ unit[best], abs=1e-5)
    names = [items.relpath(k) for k in range(len(items))]
    assert (names.index("test/thing/0.png"), names.index("train/thing/0.png")) in got  # the same pixels
    with pytest.raises(ValueError, match="no training"):
        candidates(Items.from_folder(cifar / "test"), vectors[:6], 1)


def test_cifar_prints_json_and_writes_pairs(cifar, tmp_path):
    with open(tmp_path / "list.csv", "w", newline="") as f:
        rows = [(f"test/thing/{k}.png", f"train/thing/{k}.png") for k in (0, 1)]
        csv.writer(f).writerows([("image", "duplicate"), *rows])
    out = tmp_path / "out.csv"
    result = run.invoke(app, ["cifar", str(cifar), str(tmp_path / "list.csv"), "--out", str(out)])
    told = json.loads(result.stdout)
    assert (told["images"], told["listed"], told["listed_among_candidates"]) == (14, 2, 2)
    assert told["after_the_second_look"]["found_in_300"] == 1 and told["pairs_at_half"] >= 1
    with out.open(newline="") as f:
        best = next(csv.DictReader(f))
    assert (best["image"], best["duplicate"], best["grade"]) == (*rows[0], "exact")
