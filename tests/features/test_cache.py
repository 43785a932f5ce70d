import multiprocessing
import os
import random
import sqlite3
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import systems
import torch
from fastai.vision.all import ImageDataLoaders, Resize, ResizeMethod, vision_learner
from networks import resnet10
from pictures import picture, write_pictures
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

from imgclean.dataset.items import Items
from imgclean.features import activations
from imgclean.features.activations import embed
from imgclean.features.backbones import default_learner
from imgclean.features.cache import Cache, fingerprint_of
from imgclean.features.pooling import GeM


def small_learner(folder, seed=0, **resize):
    tfms = Resize(48, **resize)
    dls = ImageDataLoaders.from_folder(folder, valid_pct=0.25, seed=1, item_tfms=tfms, bs=2, num_workers=0)
    torch.manual_seed(seed)  # fastai's splitter has set another
    return vision_learner(dls, resnet10, pretrained=False)


@pytest.fixture
def looks(monkeypatch):
    "How many images the model had to look at, run by run."
    seen, recall = [], activations._Pass.recall

    def counted(self, items, precision):
        recall(self, items, precision)
        seen.append(len(self.todo))

    monkeypatch.setattr(activations._Pass, "recall", counted)
    return seen


@pytest.fixture
def folder(tmp_path):
    write_pictures(tmp_path / "set", [f"{c}/{k}.jpg" for c in "ab" for k in range(5)], list(range(10)))
    return tmp_path / "set"


def test_what_had_to_be_computed_is_told(folder, tmp_path):
    (folder / "a/twin.jpg").write_bytes((folder / "a/0.jpg").read_bytes())
    (folder / "a/broken.jpg").write_bytes((folder / "a/1.jpg").read_bytes()[:300])
    learn, items = small_learner(folder), Items.from_folder(folder)
    assert len(items) == 12
    assert embed(learn, items).computed == 11  # without a cache equal files are not known
    assert embed(learn, items.subset(range(3)), cache=tmp_path / "cache").computed == 3
    assert [embed(learn, items, cache=tmp_path / "cache").computed for _ in range(2)] == [7, 0]


def test_a_second_run_looks_at_nothing_and_gives_the_same_bits(folder, tmp_path, looks):
    learn, items = small_learner(folder), Items.from_folder(folder)
    without = embed(learn, items, bs=4)
    assert sum(looks) == 10
    for _ in range(3):
        seen = embed(learn, items, bs=4, cache=tmp_path / "cache")
        np.testing.assert_array_equal(seen.vectors, without.vectors)
    assert sum(looks) == 20


def test_only_new_and_changed_content_is_looked_at(folder, tmp_path, looks):
    learn = small_learner(folder)

    def look():
        looks.clear()
        embed(learn, Items.from_folder(folder), bs=4, cache=tmp_path / "cache")
        return sum(looks)

    assert look() == 10
    write_pictures(folder, ["a/new1.jpg", "b/new2.jpg"], [20, 21])
    assert look() == 2
    (folder / "a/0.jpg").rename(folder / "b/renamed.jpg")
    (folder / "a/1.jpg").touch()
    assert look() == 0
    picture(30).save(folder / "a/2.jpg")
    assert look() == 1
    os.link(folder / "a/2.jpg", folder / "a/copy.jpg")
    assert look() == 0


def test_the_same_content_is_looked_at_once(folder, tmp_path, looks):
    for k in range(6):
        os.link(folder / "a/0.jpg", folder / f"a/copy{k}.jpg")
    (folder / "a/broken.jpg").write_bytes(b"no image")
    (folder / "b/broken.jpg").write_bytes(b"no image")
    seen = embed(small_learner(folder), Items.from_folder(folder), bs=4, cache=tmp_path / "cache")
    assert sum(looks) == 11  # ten pictures and, once, what cannot be read
    assert len(seen.vectors) == 16 and len(seen.items.unreadable) == 2
    plain = embed(small_learner(folder), Items.from_folder(folder), bs=4)
    np.testing.assert_allclose(seen.vectors, plain.vectors, rtol=1e-4, atol=1e-5)
    assert seen.items == plain.items


def test_another_model_layer_pool_or_transform_is_a_miss(folder, tmp_path, looks):
    items, learn = Items.from_folder(folder), small_learner(folder)

    def look(learn, **args):
        looks.clear()
        embed(learn, items, bs=4, cache=tmp_path / "cache", **args)
        return sum(looks)

    assert look(learn) == 10 and look(small_learner(folder)) == 0  # the same weights again
    assert look(small_learner(folder, seed=1)) == 10
    assert look(learn, layer="0.6") == 10
    assert look(learn, pool_dim=2) == 10
    assert look(learn, pool=GeM) == 10 and look(learn, pool=lambda size: GeM(size, p=4)) == 10
    assert look(small_learner(folder, method=ResizeMethod.Squish)) == 10
    with torch.no_grad():
        next(learn.model.parameters())[0, 0, 0, 0] += 1e-3  # one step of training
    assert look(learn) == 10 and look(learn) == 0


class Scaled(nn.Module):
    "What a notebook defines"

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x) * 2


def test_an_edited_forward_is_a_miss(folder, tmp_path, looks, monkeypatch):
    model, items = Scaled(nn.Conv2d(3, 4, 3)), Items.from_folder(folder)

    def look():
        looks.clear()
        embed(model, items, tfm=lambda im: pil_to_tensor(im.resize((8, 8))).float(), bs=4, cache=tmp_path)
        return sum(looks)

    assert look() == 10 and look() == 0
    monkeypatch.setattr(Scaled, "forward", lambda self, x: self.body(x) * 3)
    assert look() == 10 and look() == 0
    monkeypatch.setattr(Scaled, "forward", lambda self, x: self.body(x) - 3)
    assert look() == 10


def test_a_reader_that_may_look_at_anything_is_never_cached(folder, tmp_path, looks):
    from fastai.vision.all import (
        CategoryBlock,
        DataBlock,
        ImageBlock,
        PILImage,
        get_image_files,
        parent_label,
    )

    block = DataBlock((ImageBlock, CategoryBlock), get_items=get_image_files, get_y=parent_label, item_tfms=Resize(48),
                      get_x=lambda path: PILImage.create(Path(path)))  # fmt: skip
    learn = vision_learner(block.dataloaders(folder, bs=2), resnet10, pretrained=False)
    for _ in range(2):
        embed(learn, Items.from_folder(folder), bs=4, cache=tmp_path / "cache")
    assert sum(looks) == 20


def looks_at(folder, cache, workers, ready):
    learn = small_learner(folder)
    ready.set()
    embed(learn, Items.from_folder(folder), bs=4, num_workers=workers, cache=cache)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_killed_at_any_moment_goes_on_to_the_same_bits(tmp_path, workers):
    folder = tmp_path / "set"
    write_pictures(folder, [f"{c}/{k}.png" for c in "ab" for k in range(60)], list(range(120)))
    items, cache = Items.from_folder(folder), tmp_path / "cache"
    expected = embed(small_learner(folder), items, bs=4, num_workers=workers).vectors
    # A copy of this process has imported torch already, but may hang where torch has computed with threads, or not on Linux.
    alone = sys.platform == "linux" and torch.get_num_threads() == 1
    processes = multiprocessing.get_context("fork" if alone else "spawn")
    rng, found = random.Random(0), []
    for _ in range(3):
        ready = processes.Event()
        child = processes.Process(target=looks_at, args=(folder, cache, workers, ready))
        child.start()
        assert ready.wait(60)
        start = time.time()
        before = Cache(cache).info()["vectors"]
        goal = before + rng.randint(
            0, 30
        )  # killed after so many vectors more, in the middle of what comes next
        while child.is_alive() and Cache(cache).info()["vectors"] < goal and time.time() - start < 60:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.02)
        lanes = psutil.Process(child.pid).children() if child.is_alive() else []
        child.kill()
        child.join()
        assert not psutil.wait_procs(lanes, timeout=60)[1]  # none goes on without it
        found.append(Cache(cache).info()["vectors"])
    assert 0 < found[0] <= found[-1] <= 120 and found == sorted(found)
    np.testing.assert_array_equal(
        embed(small_learner(folder), items, bs=4, num_workers=workers, cache=cache).vectors, expected
    )


def test_damaged_vectors_are_computed_anew_and_said(folder, tmp_path, looks, caplog):
    learn, items, cache = small_learner(folder), Items.from_folder(folder), Cache(tmp_path)
    good = embed(learn, items, bs=4, cache=tmp_path).vectors
    with sqlite3.connect(cache.path) as db:
        rows = db.execute("select rowid, vector from vectors limit 3").fetchall()
        (a, one), (b, _), (c, _) = rows
        db.execute("update vectors set vector = ? where rowid = ?", (bytes([one[0] ^ 1]) + one[1:], a))
        db.execute("update vectors set vector = ? where rowid = ?", (b"short", b))
        db.execute("update vectors set crc = 0 where rowid = ?", (c,))
    looks.clear()
    np.testing.assert_array_equal(embed(learn, items, bs=4, cache=tmp_path).vectors, good)
    assert sum(looks) == 3 and "3 damaged vectors" in caplog.text
    np.testing.assert_array_equal(embed(learn, items, bs=4, cache=tmp_path).vectors, good)
    assert sum(looks) == 3


@pytest.mark.parametrize("damage", ["garbage", "cut", "zeros"])
def test_a_damaged_file_is_begun_anew_and_said(folder, tmp_path, caplog, damage):
    learn, items, cache = small_learner(folder), Items.from_folder(folder), Cache(tmp_path)
    good = embed(learn, items, bs=4, cache=tmp_path).vectors
    data = cache.path.read_bytes()
    ruined = {
        "garbage": b"no database " * 500,
        "cut": data[: len(data) // 2],
        "zeros": data[:100] + bytes(len(data) - 100),
    }
    cache.path.write_bytes(ruined[damage])
    for _ in range(2):
        np.testing.assert_array_equal(embed(learn, items, bs=4, cache=tmp_path).vectors, good)
    assert "damaged" in caplog.text and cache.info()["vectors"] == 10


def test_a_cache_that_cannot_be_written_stops_nothing(folder, tmp_path, caplog):
    (tmp_path / "file").write_text("a file, where the folder should be")
    learn, items = small_learner(folder), Items.from_folder(folder)
    seen = embed(learn, items, bs=4, cache=tmp_path / "file")
    np.testing.assert_array_equal(seen.vectors, embed(learn, items, bs=4).vectors)
    assert "going on without it" in caplog.text and (tmp_path / "file").is_file()


def test_info_and_clear(folder, tmp_path):
    cache = Cache(tmp_path / "cache")
    assert cache.info() == {"path": str(cache.path), "bytes": 0, "vectors": 0, "models": 0, "checks": 0}
    embed(small_learner(folder), Items.from_folder(folder), cache=tmp_path / "cache")
    info = cache.info()
    assert (info["vectors"], info["models"]) == (10, 1) and info["bytes"] > 10 * 4 * 1024
    (tmp_path / "cache/mine.txt").write_text("not the cache's")
    cache.clear()
    assert cache.info()["vectors"] == 0 and [p.name for p in (tmp_path / "cache").iterdir()] == ["mine.txt"]


@systems.names_of_bytes
def test_names_that_are_no_text_are_found_again(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff\n.jpg")
    picture(1).save(path)
    cache = Cache(tmp_path / "cache")
    first = cache.digests([path, tmp_path / "gone.jpg"])
    assert first == cache.digests([path, tmp_path / "gone.jpg"]) and len(first[0]) == 16 and first[1] is None


def test_fingerprints_differ_where_their_parts_do():
    parts = [
        ["a", "b"],
        ["ab"],
        [np.zeros(2)],
        [np.zeros((1, 2))],
        [np.zeros(2, dtype=np.float32)],
        [np.ones(2)],
        [],
    ]
    assert len({fingerprint_of(p) for p in parts}) == len(parts)
    assert fingerprint_of(["a", np.ones(2)]) == fingerprint_of(iter(["a", np.ones(2)]))


def test_a_vector_does_not_depend_on_its_place_in_the_batch(folder):
    learn, items = small_learner(folder), Items.from_folder(folder)
    order = np.random.default_rng(0).permutation(len(items)).tolist()
    straight = embed(learn, items, bs=4, num_workers=0).vectors
    shuffled = embed(learn, items.subset(order), bs=4, num_workers=0).vectors
    np.testing.assert_array_equal(straight[order], shuffled)


def test_a_head_that_no_vector_depends_on_is_no_miss(folder, tmp_path, looks):
    "`default_learner` has a new random head in every process, and one as wide as there are classes."
    items, prints = Items.from_folder(folder), []
    for seed in range(2):
        torch.manual_seed(seed)
        learn = default_learner(folder, size=64)
        prints.append(embed(learn, items, cache=tmp_path / "cache").fingerprint)
        learn.model[1] = torch.nn.Flatten()
    prints.append(embed(learn, items, cache=tmp_path / "cache").fingerprint)
    assert sum(looks) == 10 and len(set(prints)) == 1
    behind = [embed(default_learner(folder, size=64), items, layer="1.4").fingerprint for _ in range(2)]
    assert behind[0] != behind[1]


def test_another_limit_of_pixels_is_asked_anew(folder, tmp_path):
    learn, items = small_learner(folder), Items.from_folder(folder)
    assert len(embed(learn, items, cache=tmp_path / "cache").items) == 10
    assert len(embed(learn, items, cache=tmp_path / "cache", max_pixels=100).items) == 0


def test_a_poolings_own_weights_are_part_of_the_fingerprint(folder):
    class Scaled(torch.nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(scale))

        def forward(self, x):
            return x.mean((2, 3)) + self.scale

    learn, items = small_learner(folder), Items.from_folder(folder)
    one, two = (embed(learn, items, pool=lambda size, s=s: Scaled(s)).fingerprint for s in (1.0, 2.0))
    assert one != two
