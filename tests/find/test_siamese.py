import logging
import random

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from fastai.callback import fp16
from fastai.vision.all import Normalize, load_learner
from pictures import picture, write_pictures
from PIL import Image

from imgclean.dataset.images import open_image
from imgclean.dataset.items import Items
from imgclean.find.pairs import Pairs
from imgclean.find.siamese import (
    SiameseImage,
    SiameseTransform,
    classifier_learner,
    encodings,
    siamese_learner,
    siamese_pairs,
    siamese_scores,
    siamese_splitter,
)
from imgclean.find.siamese_head import _Drawn, fit_head


def test_half_of_the_pairs_are_of_one_class_and_none_is_an_image_with_itself(folder):
    files = list(Items.from_folder(folder).paths)
    tfm = SiameseTransform(files, (range(0, 16, 2), range(1, 16, 2)), lambda f: f.parent.name)
    random.seed(0)
    drawn = [(f, *tfm._draw(f, tfm.train, random)) for f in files[::2] for _ in range(50)]
    assert all(f != other and (f.parent == other.parent) == same for f, other, same in drawn)
    assert {other for _, other, _ in drawn} == set(files[::2])  # none from the validation set
    assert 150 < sum(same for *_, same in drawn) < 250  # of 400, chance 5 standard deviations off
    assert set(tfm.valid) == set(files[1::2]) == {*tfm.valid} | {other for other, _ in tfm.valid.values()}
    again = SiameseTransform(files, (range(0, 16, 2), range(1, 16, 2)), lambda f: f.parent.name)
    assert again.valid == tfm.valid  # they stay
    one = tfm.encodes(files[1])
    other, same = tfm.valid[files[1]]
    assert isinstance(one, SiameseImage) and one[2] == int(same)
    assert np.array_equal(np.asarray(one[1]), np.asarray(open_image(other)))


def test_a_class_of_one_image_meets_other_classes_alone(tmp_path):
    write_pictures(tmp_path, ["a/1.png", "b/1.png", "b/2.png"], [1, 2, 3])
    files = list(Items.from_folder(tmp_path).paths)
    tfm = SiameseTransform(files, (range(3), range(3)), lambda f: f.parent.name)
    assert not any(tfm._draw(files[0], tfm.train, random)[1] for _ in range(30))
    twice = SiameseTransform([files[0], *files], (range(4), range(4)), lambda f: f.parent.name)
    assert not any(twice._draw(files[0], twice.train, random)[1] for _ in range(30))
    with pytest.raises(ValueError, match="validation set has images of 1 classes"):
        SiameseTransform(files, (range(3), [1, 2]), lambda f: f.parent.name)


def test_comparing_encodings_is_the_whole_model(learn):
    a, b = torch.randn(2, 3, 3, 64, 64)
    model = learn.model.eval()
    pool = model.head[0]
    with torch.no_grad():
        whole = model(a, b)
        # The article's forward: both maps, one behind the other, through the head.
        assert torch.equal(whole, model.head(torch.cat([model.encoder(a), model.encoder(b)], 1)))
        parts = model.compare(*(pool(model.encoder(x)).flatten(1) for x in (a, b)))
    assert torch.allclose(whole, parts, atol=1e-5)


def test_scores_are_those_of_the_images_themselves_in_either_order(learn, folder):
    items = Items.from_folder(folder).subset([0, 3, 9])
    vectors, seen = encodings(learn, items, precision="fp32", progress=False)
    assert seen.paths == items.paths and len(vectors) == 3
    before = learn.model.training
    scores = siamese_scores(learn, vectors[[0, 0]], vectors[[1, 2]])
    assert learn.model.training == before
    assert np.allclose(scores, siamese_scores(learn, vectors[[1, 2]], vectors[[0, 0]]))
    normalize = next(t for t in learn.dls.after_batch.fs if isinstance(t, Normalize))

    def seen_as(k: int) -> torch.Tensor:
        small = open_image(items.paths[k]).resize((64, 64), Image.Resampling.BILINEAR)
        x = torch.from_numpy(np.asarray(small, np.float32)).permute(2, 0, 1)[None] / 255
        return (x - normalize.mean.cpu()) / normalize.std.cpu()

    model = learn.model.eval()
    with torch.no_grad():  # slowly: image by image, one pair at a time, both orders
        for score, k in zip(scores, (1, 2), strict=True):
            x, y = seen_as(0), seen_as(k)
            slow = (model(x, y).softmax(1) + model(y, x).softmax(1))[0, 1] / 2
            assert abs(float(slow) - score) < 1e-3


def test_the_head_learns_from_encodings_and_leaves_the_encoder_alone(learn, folder):
    encoder = {k: v.clone() for k, v in learn.model.encoder.state_dict().items()}
    modes = [m.training for m in learn.model.modules()]
    torch.manual_seed(0)
    share = fit_head(learn, 4, 3e-3, n_pairs=600, bs=50, progress=False)
    assert [m.training for m in learn.model.modules()] == modes
    assert all(torch.equal(v, encoder[k]) for k, v in learn.model.encoder.state_dict().items())
    items = Items.from_folder(folder)
    i, j = np.tril_indices(len(items), -1)
    ranked = siamese_pairs(learn, Pairs.of(i, j, np.zeros(len(i))), items, progress=False)
    same = np.array([items.labels[a] == items.labels[b] for a, b, _ in ranked])
    assert share >= 0.5 and len(ranked) == len(i)
    assert same[: same.sum()].mean() > 0.75  # pairs of one class come first; by chance .47


def test_unreadable_images_are_left_out_of_the_pairs(learn, folder, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    Image.new("L", (40, 40), 90).save(tmp_path / "grey.png")
    items = Items.from_paths([tmp_path / "broken.png", tmp_path / "grey.png", folder / "red/0.png"])
    found = siamese_pairs(learn, Pairs.of([1, 2, 2], [0, 0, 1], [0.9, 0.8, 0.7]), items, progress=False)
    assert list(zip(found.i, found.j, strict=True)) == [(2, 1)] and 0 < found.score[0] < 1
    none = Pairs.of([], [], [])
    assert siamese_pairs(learn, none, items) is none


def test_batches_of_encodings_are_half_of_one_class():
    vectors = np.arange(10, dtype=np.float32)[:, None]
    rows = {"a": [0, 1, 2, 3], "b": [4, 5], "c": [9]}
    label = {k: name for name, ks in rows.items() for k in ks}
    drawn = _Drawn(vectors, rows, 2000, 1000, seed=0)
    a, b, same = (torch.cat(part).ravel().int().tolist() for part in zip(*drawn, strict=True))
    assert len(drawn) == 2 and len(a) == 2000 and set(a) == set(b) == set(label)
    assert all(x != y and (label[x] == label[y]) == bool(s) for x, y, s in zip(a, b, same, strict=True))
    assert 0.35 < np.mean(same) < 0.5  # the class of one image has no pair
    assert {(x, y) for x, y, s in zip(a, b, same, strict=True) if s} >= {(0, 3), (3, 0), (4, 5), (5, 4)}


def test_a_learner_has_two_groups_trains_and_is_exported(learn, folder, tmp_path):
    groups = siamese_splitter(learn.model)
    assert sum(map(len, groups)) == len(list(learn.model.parameters())) and len(groups) == 2
    assert len(learn.opt.param_lists if learn.opt else learn.splitter(learn.model)) == 2
    before = learn.model.head[-1].weight.clone()
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(1, 1e-3)
    assert not torch.equal(before, learn.model.head[-1].weight)
    items = Items.from_folder(folder).subset([0, 12])
    learn.export(tmp_path / "siamese.pkl")
    again = load_learner(tmp_path / "siamese.pkl")
    assert np.array_equal(*(encodings(x, items, precision="fp32", progress=False)[0] for x in (learn, again)))


def test_mixed_precision_trains_predicts_and_is_exported(folder, tmp_path, monkeypatch):
    "bf16 for real: fastai asks for CUDA, which gives fp32 where there is none, so here the CPU stands in for it."
    monkeypatch.setattr(fp16, "autocast", lambda _, dtype: torch.autocast("cpu", dtype=dtype))
    monkeypatch.setattr(fp16, "GradScaler", lambda _, **settings: torch.amp.GradScaler("cpu", **settings))
    torch.manual_seed(0)
    learn = siamese_learner(
        folder, arch="mobilenetv3_small_050", pretrained=False, size=32, bs=4, num_workers=0
    ).to_bf16()
    seen = set()
    parts = (learn.model.encoder, learn.model.head[-1])
    handles = [part.register_forward_hook(lambda _m, _x, out: seen.add(out.dtype)) for part in parts]
    before = [next(part.parameters()).clone() for part in parts]
    learn.unfreeze()
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(1, 1e-3)
        logits, truth = learn.get_preds(ds_idx=1)
    assert seen >= {torch.bfloat16} and {p.dtype for p in learn.model.parameters()} == {torch.float32}
    assert not any(torch.equal(a, next(part.parameters())) for a, part in zip(before, parts, strict=True))
    assert np.isfinite(np.array(learn.recorder.values)).all()
    assert logits.dtype == torch.float32 and logits.isfinite().all() and len(logits) == len(truth)
    for handle in handles:
        handle.remove()
    learn.export(tmp_path / "siamese.pkl")
    again = load_learner(tmp_path / "siamese.pkl")
    items = Items.from_folder(folder).subset([0, 12])
    vectors = [encodings(x, items, precision="fp32", progress=False)[0] for x in (learn, again)]
    assert np.array_equal(*vectors)
    assert 0 < float(siamese_scores(again, vectors[1][:1], vectors[1][1:])[0]) < 1


def test_half_precision_is_asked_for_by_name(folder):
    learn = siamese_learner(folder, size=64, bs=4, num_workers=0, fp16=True)
    assert learn.mixed_precision.amp_mode == fp16.AMPMode.FP16


def test_pairs_are_shown_with_their_truth(learn):
    axes = learn.dls.show_batch(max_n=3) or plt.gcf().axes
    assert {ax.get_title() for ax in axes if ax.get_title()} <= {"same", "different"}
    plt.close("all")
    ax = SiameseImage(picture(1), picture(2).convert("L"), 1).show()
    assert ax.get_title() == "same" and ax.images[0].get_array().shape[0] == 80
    plt.close("all")


def test_sources_that_cannot_be_learnt_from(folder, tmp_path, caplog):
    write_pictures(tmp_path, [f"a/{k}.png" for k in range(6)], range(6))
    with pytest.raises(ValueError, match="images of 1 classes; give images of at least two"):
        siamese_learner(tmp_path, size=64)
    with pytest.raises(ValueError, match="16 of 16 images have no label; give label_func="):
        siamese_learner(Items.from_folder(folder).paths, size=64)
    files = [*Items.from_folder(folder).paths, tmp_path / "broken.png"]
    (tmp_path / "broken.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        some = siamese_learner(files, lambda f: f.parent.name, size=64, num_workers=0, label_smoothing=True)
    assert "1 of 17 images cannot be read" in caplog.text
    assert [bad.path.name for bad in some.dls.imgclean_items.unreadable] == ["broken.png"]


def test_a_classifier_of_the_same_images(folder):
    learn = classifier_learner(folder, size=64)
    assert list(learn.dls.vocab) == ["blue", "red"] and [m.name for m in learn.metrics] == ["accuracy"]
