import sys
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("ray.data", reason="Ray Data is not installed; pip install 'imgclean[ray]'")

from ray import cloudpickle

from imgclean.scaleout.images import Images, place_of, unpack

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test


def test_fetched_images_have_the_labels_of_their_ids():
    data = {"train/cat/1.png": b"one", "a.tar/dog/2.jpg": b"two", "b.tar/3.jpg": None}

    def fetch(ids):
        return ((name, data[name], "") for name in sorted(ids))

    with Images(fetch=fetch).items(list(data)) as items:
        assert items.labels == ("cat", "dog", None) and items.splits == ("train", None, None)
        assert [path.read_bytes() if path.exists() else None for path in items.paths] == list(data.values())
        assert [path.suffix for path in items.paths] == [".png", ".jpg", ".jpg"]
        folder = items.root
    assert not folder.exists()


def test_images_of_a_folder_stay_where_they_are():
    with Images(Path("/data")).items(["cat/1.png"]) as items:
        assert items.paths == (Path("/data/cat/1.png"),) and items.labels == ("cat",)


def test_no_id_leads_out_of_the_folder_of_fetched_images():
    assert place_of("cat/1.png") == "cat/1.png"
    for name in ("../1.png", "/etc/1.png", "a/../../1.png"):
        assert "/" not in place_of(name) and place_of(name).endswith(".png")


def of_shard(asked, shard, ids):
    with open(asked, "a") as f:
        f.write(f"{shard} {len(ids)}\n")
    return ((name, name.encode(), "") for name in ids if name.startswith(shard))


def test_each_shard_is_read_once(small_ray, tmp_path):
    ids = [f"{shard}.tar/{k}.png" for shard in "ab" for k in range(3)]
    images = Images(
        shards=("a.tar", "b.tar", "c.tar"), fetch_from=partial(of_shard, tmp_path / "asked"),
        shard_of=lambda name: name.split("/")[0],
    )  # fmt: skip
    unpack(images, ids[:1], tmp_path / "unpacked")
    found = unpack(images, ids, tmp_path / "unpacked")
    assert sorted((tmp_path / "asked").read_text().splitlines()) == ["a.tar 1", "a.tar 2", "b.tar 3"]
    with found.items(ids[::-1]) as items:
        assert [path.read_bytes().decode() for path in items.paths] == ids[::-1]


def test_a_shard_that_ids_do_not_tell_is_looked_for(small_ray, tmp_path):
    images = Images(
        shards=("a", "b"), fetch_from=partial(of_shard, tmp_path / "asked"), shard_of=lambda name: None
    )
    unpack(images, ["b1"], tmp_path / "unpacked")
    assert (tmp_path / "unpacked/b1").read_text() == "b1"
    assert sorted((tmp_path / "asked").read_text().splitlines()) == ["a 1", "b 1"]
