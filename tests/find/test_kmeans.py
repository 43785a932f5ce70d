import json
import re

import numpy as np
import pytest
from sklearn import cluster

from imgclean.find import kmeans
from imgclean.find.kmeans import KMeans

SETTINGS = {
    "arch": "resnet34",
    "layer": "0.7.2",
    "pool": "AdaptiveConcatPool2d",
    "pool_dim": 1,
    "fingerprint": "ab12",
}


def blobs(n=300, d=16, k=5, seed=0, spread=0.1):
    "Rows around `k` directions, of any length."
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(k, d))[np.arange(n) % k] + spread * rng.normal(size=(n, d))
    return (x * rng.uniform(0.5, 3, (n, 1))).astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def slow_nearest(model, x, n):
    "Every distance, as numpy's norm gives it: what the article does."
    distances = np.linalg.norm(unit(x.astype(np.float64))[:, None] - model.centroids[None], axis=2)
    index = np.argsort(distances, axis=1, kind="stable")[:, :n]
    return index, np.take_along_axis(distances, index, 1)


def test_the_centroids_are_scikit_learns_on_unit_rows():
    x = blobs()
    model = KMeans(5).fit(x)
    theirs = cluster.KMeans(5, init=unit(x)[:5], n_init=1).fit(unit(x))
    best = np.array([np.linalg.norm(theirs.cluster_centers_ - c, axis=1).min() for c in model.centroids])
    assert (best < 0.02).all() or model.inertia * len(x) < 1.5 * theirs.inertia_ + 60
    assert model.centroids.dtype == np.float32 and model.inertia > 0


def test_rows_of_one_blob_share_a_cluster():
    x = blobs(k=3, n=90)
    label = KMeans(12, seed=1).fit(x).predict(x)
    of = [set(label[k::3]) for k in range(3)]
    assert not (of[0] & of[1] or of[0] & of[2] or of[1] & of[2])


@pytest.mark.parametrize("n", [1, 3, 7])
def test_nearest_equals_every_distance(n, monkeypatch):
    monkeypatch.setattr(kmeans, "READ", 100)  # many blocks
    x = blobs(d=9)
    model = KMeans(7).fit(x)
    new = blobs(80, 9, seed=3, spread=0.5)
    index, distance = model.nearest(new, n)
    slow = slow_nearest(model, new, n)
    np.testing.assert_allclose(distance, slow[1], atol=2e-3)
    clear = np.ones(len(new), bool) if n == 7 else np.diff(slow_nearest(model, new, n + 1)[1])[:, -1] > 1e-5
    assert clear.sum() > 70
    np.testing.assert_array_equal(np.sort(index[clear], 1), np.sort(slow[0][clear], 1))
    np.testing.assert_array_equal(model.predict(new)[clear], index[clear, 0])


def test_a_file_larger_than_a_block_gives_what_memory_gives(tmp_path, monkeypatch):
    x = blobs().astype(np.float16)
    there = np.memmap(tmp_path / "x", np.float16, "w+", shape=x.shape)
    there[:] = x
    monkeypatch.setattr(kmeans, "READ", 64)
    a, b = KMeans(6).fit(there), KMeans(6).fit(x)
    np.testing.assert_array_equal(a.centroids, b.centroids)
    np.testing.assert_array_equal(a.predict(there), b.predict(x))


def test_the_same_seed_gives_the_same_centroids():
    x = blobs(spread=1)
    same = [KMeans(9, seed=s).fit(x).centroids for s in (0, 0, 1)]
    np.testing.assert_array_equal(same[0], same[1])
    assert not np.array_equal(same[0], same[2])


def test_by_default_there_are_as_many_clusters_as_the_root_of_the_rows():
    assert len(KMeans().fit(blobs(150)).centroids) == 12
    assert len(KMeans().fit(blobs(1)).centroids) == 1


def test_many_copies_are_clustered_without_a_warning(recwarn):
    x = np.repeat(blobs(2), 50, axis=0)
    model = KMeans(8).fit(x)
    assert np.isfinite(model.centroids).all() and len(set(model.predict(x))) == 2 and not list(recwarn)


def test_rows_of_zeros_belong_nowhere_and_are_far():
    x = blobs(60)
    x[7] = 0
    model = KMeans(4).fit(x)
    assert model.predict(x)[7] == -1 and model.far(x)[7] and (np.delete(model.predict(x), 7) >= 0).all()
    assert model.nearest(x, 2)[1][7].tolist() == [np.inf, np.inf]


def test_what_is_unlike_all_is_far_and_what_is_alike_is_not():
    x = blobs()
    model = KMeans(5).fit(x)
    assert model.far(x).mean() <= 0.02
    assert model.far(-x).all() and not model.far(-x, 2).any() and model.far(x, 0).all()


def test_extend_makes_clusters_of_far_rows_and_leaves_the_lone_ones_out():
    x = blobs(spread=0.03)
    model = KMeans(20, settings=SETTINGS).fit(x)
    rng = np.random.default_rng(9)
    other, third, lone = rng.normal(size=(3, 16))
    new = np.stack([x[0], other, lone, third, other * 2, third + 0.01, x[1] * 5, np.zeros(16)])
    more, label = model.extend(new, 0.3)
    assert (
        label[[1, 4]].tolist() == [20, 20]
        and label[[3, 5]].tolist() == [21, 21]
        and label[[2, 7]].tolist() == [-1, -1]
    )
    assert label[0] == model.predict(x[:1])[0] and label[6] == model.predict(x[1:2])[0]
    np.testing.assert_array_equal(more.centroids[:20], model.centroids)
    np.testing.assert_allclose(more.centroids[20], unit(other[None])[0], atol=1e-6)
    assert more.predict(new)[[1, 3, 4, 5]].tolist() == [20, 21, 20, 21] and more.settings == SETTINGS
    same, label = model.extend(x[:10], 2)
    assert len(same.centroids) == 20 and (label >= 0).all()


def test_saved_centroids_come_back_bit_by_bit(tmp_path):
    x = blobs()
    model = KMeans(5, seed=3, settings=SETTINGS).fit(x)
    model.save(tmp_path / "centroids.json")
    again = KMeans.load(tmp_path / "centroids.json", SETTINGS)
    assert again.centroids.tobytes() == model.centroids.tobytes()
    assert (again.inertia, again.far_distance, again.seed, again.n_clusters) == (
        model.inertia, model.far_distance, 3, 5
    )  # fmt: skip
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "centroids.json").read_bytes()


def test_centroids_json_keeps_its_schema(tmp_path):
    KMeans(3, settings=SETTINGS).fit(blobs(d=4)).save(tmp_path / "c.json")
    about = json.loads((tmp_path / "c.json").read_text())
    assert list(about) == [
        "imgclean", "version", "n_clusters", "d", "metric", "normalised", "settings", "seed", "inertia",
        "far_distance", "centroids",
    ]  # fmt: skip
    assert (about["imgclean"], about["version"], about["n_clusters"], about["d"]) == ("centroids", 1, 3, 4)
    assert about["metric"] == "euclidean" and about["normalised"] is True and about["settings"] == SETTINGS
    assert np.array(about["centroids"]).shape == (3, 4)


@pytest.mark.parametrize(
    ("now", "message"),
    [
        ({"layer": "0.6"}, "made with layer '0.7.2', now it is '0.6'"),
        ({"fingerprint": "ff"}, "made with fingerprint 'ab12', now it is 'ff'"),
        ({"pool_dim": 4}, "pool_dim 1, now it is 4"),
    ],
)
def test_centroids_of_another_model_or_layer_are_refused(tmp_path, now, message):
    KMeans(3, settings=SETTINGS).fit(blobs()).save(tmp_path / "c.json")
    with pytest.raises(ValueError, match=message):
        KMeans.load(tmp_path / "c.json", SETTINGS | now)
    KMeans.load(tmp_path / "c.json", {"fingerprint": None, "arch": "resnet34", "unknown": 3})


def test_damaged_and_foreign_files_are_refused(tmp_path):
    file = tmp_path / "c.json"
    KMeans(3).fit(blobs(d=4)).save(file)
    text = file.read_text()
    broken = [
        "", "{}", "[1]", "null", text[:-9], text.replace('"d": 4', '"d": 5'), "[" * 100_000, "\x00" * 9,
        text.replace('"version": 1,\n', ""), re.sub(r"\[\[?-?\d\.\d+,", "[NaN,", text, count=1), text.replace("centroids", "x", 1),
        text.replace('"settings": {}', '"settings": 3'), text.replace('"seed": 0', '"seed": "x"'),
    ]  # fmt: skip
    for content in broken:
        file.write_text(content)
        with pytest.raises(ValueError, match="holds no centroids of imgclean or is damaged"):
            KMeans.load(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="damaged"):
        KMeans.load(file)
    file.write_text(text.replace('"version": 1', '"version": 2'))
    with pytest.raises(ValueError, match="version 2 and metric 'euclidean', this imgclean reads version 1"):
        KMeans.load(file)
    with pytest.raises(FileNotFoundError):
        KMeans.load(tmp_path / "nowhere.json")


def test_wrong_input_is_refused():
    x = blobs()
    model = KMeans(5).fit(x)
    bad = x.copy()
    bad[3, 2] = np.nan
    for work, message in (
        (lambda: KMeans(0), "at least one cluster"),
        (lambda: KMeans(301).fit(x), "n_clusters is 301, and there are 300"),
        (lambda: KMeans(2).fit(bad), "embedding 3 holds NaN"),
        (lambda: KMeans(2).fit(x[:0]), "there are 0 embeddings"),
        (lambda: KMeans(2).fit(np.zeros((4, 3))), "none of them other than zeros"),
        (lambda: model.predict(x[:, :7]), "7 numbers a row, the centroids 16"),
        (lambda: model.nearest(x, 6), "1 to 5 of the 5 centroids"),
        (lambda: model.nearest(x, 0), "1 to 5"),
        (lambda: model.far(x, -1), "max_distance is -1"),
        (lambda: KMeans(3).predict(x), "no centroids yet"),
        (lambda: KMeans(3).save("nowhere"), "no centroids yet"),
    ):
        with pytest.raises(ValueError, match=message):
            work()
