import pickle

import numpy as np
import pytest
import torch
import torchvision
from fastai.layers import AdaptiveConcatPool2d
from fastai.vision.all import ImageDataLoaders, Resize, vision_learner
from pictures import write_pictures
from PIL import Image
from torch import nn
from torchvision.transforms import Compose, ToTensor
from torchvision.transforms import Resize as SquishTo

from imgclean.dataset.items import Items
from imgclean.features.backbones import default_learner
from imgclean.find.choose import MOST_EXACT
from imgclean.find.explain import explain_pair
from imgclean.find.keepers import POLICIES
from imgclean.formatter import DatasetFormatter, groups_of
from imgclean.review.cleaner import ImageCleaner

# The article's two functions, as slow and as obvious as they are there.


def get_actns(learn, paths, layer, pool_dim):
    pool, stored, actns = AdaptiveConcatPool2d(pool_dim), [], []
    handle = layer.register_forward_hook(lambda module, args, out: stored.append(out))
    learn.model.eval()
    with torch.no_grad():
        for (xb,) in learn.dls.test_dl(paths, bs=4):
            learn.model(xb)
            actns.append(stored[-1].cpu())
    handle.remove()
    return pool(torch.cat(actns)).view(len(paths), -1)


def comb_similarity(t1, t2, sim_func=nn.CosineSimilarity(dim=0)):  # noqa: B008
    sims = np.zeros((len(t1), len(t2)))
    for idx1 in range(len(t1)):
        for idx2 in range(len(t2)):
            if idx1 > idx2:
                sims[idx1][idx2] = sim_func(t1[idx1, :], t2[idx2, :])
    return sims


@pytest.mark.parametrize("arch", ["tf_efficientnet_lite0", "resnet34"])
def test_the_article_by_name_equals_the_article_on_real_photos(sample, arch):
    torch.manual_seed(0)
    learn = default_learner(sample.path, arch, pretrained=arch != "resnet34", size=96)
    del learn.dls.imgclean_size  # the article decodes at full scale
    layer_ls = [0, 7, 2] if arch == "resnet34" else None
    ds, idxs = DatasetFormatter.from_similars(learn, layer_ls=layer_ls, recipe="article", num_workers=0)
    block = learn.model[0][7][2] if arch == "resnet34" else learn.model[0]
    sims = comb_similarity(actns := get_actns(learn, list(ds.paths), block, 4), actns)
    assert idxs.settings["pool_dim"] == 4 and idxs.settings["pool"] == "AdaptiveConcatPool2d"
    assert len(idxs.pairs) == len(ds)  # v1 took as many pairs as there are images
    best = np.sort(sims[np.tril_indices(len(ds), -1)])[::-1][: len(ds)]
    np.testing.assert_allclose(idxs.pairs.score, best, atol=2e-5)
    np.testing.assert_allclose(idxs.pairs.score, sims[idxs.pairs.i, idxs.pairs.j], atol=2e-5)


def test_the_planted_duplicates_are_found_and_nothing_else(sample, found):
    ds, idxs = found
    names = [{ds.relpath(k) for k in g} for g in idxs]
    planted = [set(p.files) for p in sample.planted if p.what != "a truncated file"]
    assert sorted(map(sorted, names)) == sorted(map(sorted, planted))
    assert [u.path.name for u in ds.unreadable] == ["truncated.jpg"]
    assert names[0] == planted[0] and idxs[0].similarity == pytest.approx(1, abs=1e-5)
    assert [g.similarity for g in idxs] == sorted((g.similarity for g in idxs), reverse=True)
    assert all(len(g.scores) == len(g) and g.reason for g in idxs)


def test_a_learner_shows_both_of_its_sets_with_their_split(shop):
    dls = ImageDataLoaders.from_folder(shop, valid_pct=0.25, seed=1, item_tfms=Resize(64), bs=2)
    learn = vision_learner(dls, torchvision.models.resnet18, pretrained=False)
    ds, idxs = DatasetFormatter.from_similars(learn, min_similarity=0.9999)
    assert ds.splits == ("train",) * 6 + ("valid",) * 2
    names = sorted(sorted(ds.relpath(k) for k in g) for g in idxs)
    assert names == [["cat/a.jpg", "cat/c.jpg", "dog/a.jpg"], ["dog/b.jpg", "dog/d.jpg"]]
    train, _ = DatasetFormatter.from_similars(learn, n=1, ds_idx=0)
    assert list(train.paths) == list(dls.train_ds.items)


def test_items_and_dataloaders_are_taken_as_well(shop):
    items = Items.from_folder(shop)
    dls = ImageDataLoaders.from_folder(shop, valid_pct=0.25, seed=1, item_tfms=Resize(64), bs=2)
    for source in (items, dls, str(shop)):
        ds, idxs = DatasetFormatter.from_similars(source, n=4)
        assert len(ds) == 8 and len(idxs.pairs) == 4 and sorted(len(g) for g in idxs) == [2, 3]


def test_a_learner_may_look_at_other_images(shop, tmp_path):
    write_pictures(tmp_path / "new", ["1.png", "2.png", "3.png"], [7, 8, 7])
    learn = default_learner(shop, "resnet18", pretrained=False, size=64)
    for look_at in (tmp_path / "new", Items.from_folder(tmp_path / "new")):
        ds, idxs = DatasetFormatter.from_similars(learn, n=1, look_at=look_at)
        assert len(ds) == 3 and idxs == [(0, 2)]
    with pytest.raises(ValueError, match="no images"):  # not the Learner's own in their place
        DatasetFormatter.from_similars(learn, look_at=Items.from_folder(shop).subset([]))


def test_groups_can_say_which_regions_agree_and_are_pickled_without_that(shop, tmp_path):
    learn = default_learner(shop, "resnet18", pretrained=False, size=64)
    ds, idxs = DatasetFormatter.from_similars(learn, ["0.6", "0.7"], min_similarity=0.999, progress=False)
    pair = [ds.paths[k] for k in idxs[0][:2]]
    deepest = explain_pair(*pair, learn, "0.7", show=False)
    for region, m in zip(idxs.explain(*pair), deepest, strict=True):
        np.testing.assert_array_equal(region.map, m)
    again = pickle.loads(pickle.dumps(idxs))
    assert again == idxs and again.explain is None
    learn.export(tmp_path / "learn.pkl")  # nothing of ours hangs on it
    assert ImageCleaner(ds, idxs).explains and not ImageCleaner(ds, again).explains


def test_a_plain_module_looks_at_a_folder(shop):
    torch.manual_seed(0)
    model = torchvision.models.resnet18().eval()
    tfm = Compose([SquishTo((64, 64)), ToTensor()])
    look = dict(tfm=tfm, min_similarity=0.99999, progress=False, cache=False)
    items, idxs = DatasetFormatter.from_similars(model, look_at=shop, **look)
    found = [sorted(items.relpath(k) for k in group) for group in idxs]
    assert sorted(found) == [["cat/a.jpg", "cat/c.jpg", "dog/a.jpg"], ["dog/b.jpg", "dog/d.jpg"]]
    assert idxs.settings["arch"] == "ResNet" and idxs.settings["layer"] == "layer4"
    first, _ = idxs.explain(*(items.paths[k] for k in idxs[0][:2]))
    assert first.map.min() > 0.999 and first.map.shape == (2, 2)
    with pytest.raises(ValueError, match="a ResNet holds no images; give look_at="):
        DatasetFormatter.from_similars(model, **look)
    with pytest.raises(ValueError, match="arch is 'resnet34', but a ResNet is given"):
        DatasetFormatter.from_similars(model, look_at=shop, arch="resnet34", **look)


def test_settings_reach_the_pass(shop):
    layers = ["0.model.blocks.4", "0.model.blocks.6"]
    big = Image.new("RGB", (2000, 1000))
    big.save(shop / "cat" / "big.png")
    items, idxs = DatasetFormatter.from_similars(
        shop, layer=layers, dtype="float16", precision="fp32", max_pixels=10**6, progress=False, cache=False
    )
    assert [bad.path.name for bad in items.unreadable] == ["big.png"]
    assert idxs.settings["layer"] == " + ".join(layers) and idxs.settings["precision"] == "fp32"
    with pytest.raises(ValueError, match="precision is 'int8'; give one of fp32"):
        DatasetFormatter.from_similars(shop, precision="int8", progress=False, cache=False)


def test_n_and_min_similarity_bound_the_pairs(found):
    ds, _ = found
    vectors = np.random.default_rng(0).normal(size=(len(ds), 8))
    assert len(groups_of(vectors, ds, n=5, min_similarity=None).pairs) == 5
    assert all(s >= 0.7 for *_, s in groups_of(vectors, ds, min_similarity=0.7).pairs)


def test_the_method_is_chosen_and_said(monkeypatch, tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    x[30:] = x[:30] + 0.01
    write_pictures(tmp_path, [f"{k:02}.png" for k in range(60)], range(60))
    items = Items.from_folder(tmp_path)
    exact = groups_of(x, items, min_similarity=0.95)
    assert len(exact) == 30 and exact.settings["method"] == "exact" and exact.settings["expected_recall"] == 1
    monkeypatch.setitem(MOST_EXACT, "cpu", 50)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    by_clusters = groups_of(x, items, min_similarity=0.95)
    assert by_clusters.settings["method"] == "clusters" and by_clusters.settings["expected_recall"] < 1
    assert {tuple(g) for g in by_clusters} <= {tuple(g) for g in exact} and len(by_clusters) > 20
    assert groups_of(x, items, min_similarity=0.95, method="exact") == exact
    assert groups_of(x, items, n=30, min_similarity=None).settings["method"] == "exact"
    with pytest.raises(ValueError, match="method is 'fast'; give 'auto', 'exact' or 'clusters'"):
        groups_of(x, items, method="fast")


def test_keep_and_protect_choose_the_image_that_stays(shop):
    items = Items.from_folder(shop)
    at = {items.relpath(k): k for k in range(len(items))}
    vectors = np.eye(8)[[1, 2, 1, 3, 1, 4, 5, 4]]
    first = groups_of(vectors, items)
    assert first.settings["keep"] == "best" and {g[0] for g in first} == {at["cat/a.jpg"], at["dog/b.jpg"]}
    by_label = groups_of(vectors, items, keep="label")
    assert "label cat, as 2 of 3 labelled (others: 1 dog)" in [g.reason for g in by_label]
    kept = groups_of(vectors, items, protect="dog/")
    assert {g[0] for g in kept} == {at["dog/a.jpg"], at["dog/b.jpg"]}
    assert sorted(g.protected for g in kept) == [(at["dog/a.jpg"],), (at["dog/b.jpg"], at["dog/d.jpg"])]

    def last(facts):
        return max(facts, key=lambda k: facts[k]["name"]), "last by name"

    ds, idxs = DatasetFormatter.from_similars(
        shop, min_similarity=0.8, keep=last, protect=[shop / "dog" / "d.jpg"], progress=False
    )
    assert idxs.settings["keep"] == "last"
    reason = {ds.relpath(g[0]): g.reason for g in idxs}
    assert reason == {"dog/a.jpg": "last by name", "dog/d.jpg": "protected; last by name"}
    assert [g.protected for g in idxs if g[0] == at["dog/d.jpg"]] == [(at["dog/d.jpg"],)]


@pytest.mark.parametrize("keep", POLICIES)
def test_every_policy_finds_its_facts(shop, keep):
    items = Items.from_folder(shop)
    picture = Image.open(shop / "cat/c.jpg")
    exif = picture.getexif()
    exif[0x0132] = "2001:01:01 10:00:00"
    picture.resize((40, 30)).resize((96, 80)).save(shop / "cat/c.jpg", exif=exif)  # blurred, with metadata
    (group,) = groups_of(np.eye(8)[[1, 2, 1, 3, 4, 5, 6, 7]], items, keep=keep)
    at_c = keep in ("metadata", "oldest")
    assert items.relpath(group[0]) == ("cat/c.jpg" if at_c else "cat/a.jpg") and group.reason


def test_a_protected_file_may_be_unreadable(shop):
    (shop / "cat" / "bad.jpg").write_bytes(b"")
    ds, idxs = DatasetFormatter.from_similars(shop, protect="cat/bad.jpg", progress=False)
    assert len(ds.unreadable) == 1 and not any(g.protected for g in idxs)


def test_one_image_has_no_duplicate(tmp_path):
    write_pictures(tmp_path, ["1.jpg"], [1])
    ds, idxs = DatasetFormatter.from_similars(tmp_path)
    assert len(ds) == 1 and idxs == [] and len(idxs.pairs) == 0


def test_unreadable_files_are_no_duplicates_of_each_other(tmp_path):
    write_pictures(tmp_path, ["9.jpg"], [1])
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        (tmp_path / name).write_bytes(b"")
    ds, idxs = DatasetFormatter.from_similars(tmp_path)
    assert len(ds) == 1 and idxs == [] and len(ds.unreadable) == 3
    (tmp_path / "9.jpg").unlink()
    with pytest.raises(
        ValueError, match=r"none of the 3 files and folders can be read; .* \d\.jpg: the file is empty"
    ):
        DatasetFormatter.from_similars(tmp_path)


def test_wrong_arguments_are_refused_in_one_sentence(shop, tmp_path):
    learn = default_learner(shop, "resnet18", pretrained=False, size=64)
    wrong = [
        (
            ValueError,
            "keep is 'biggest'; give one of best",
            lambda: DatasetFormatter.from_similars(shop, keep="biggest"),
        ),
        (ValueError, "protect names 'x'", lambda: DatasetFormatter.from_similars(shop, protect="x")),
        (TypeError, "folder of the images", lambda: DatasetFormatter.from_similars(3)),
        (NotADirectoryError, "does not exist", lambda: DatasetFormatter.from_similars("learner")),
        (ValueError, "layer_ls", lambda: DatasetFormatter.from_similars(learn, "0", layer_ls=[0])),
        (ValueError, "'article'", lambda: DatasetFormatter.from_similars(learn, recipe="cake")),
        (ValueError, "brings its own model", lambda: DatasetFormatter.from_similars(learn, arch="resnet18")),
        (ValueError, "no images; give 0", lambda: DatasetFormatter.from_similars(learn, ds_idx=2)),
        (ValueError, "3 vectors for 8 images", lambda: groups_of(np.ones((3, 2)), Items.from_folder(shop))),
        (ValueError, "between -1 and 1", lambda: DatasetFormatter.from_similars(learn, min_similarity=85)),
    ]
    for kind, message, call in wrong:
        with pytest.raises(kind, match=message) as err:
            call()
        assert "\n" not in str(err.value)
    with pytest.raises(TypeError):
        DatasetFormatter.from_similars(learn, thershold=0.9)
