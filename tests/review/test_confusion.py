from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest

from imgclean.dataset.items import Items
from imgclean.features import predictions
from imgclean.features.predictions import Predictions
from imgclean.review.confusion import ClassConfusion
from imgclean.review.shown import row

matplotlib.use("agg")
CLASSES = ("bird", "cat", "dog")
PREDICTED = ["dog", "cat", "dog", "bird", "cat", "dog", "cat", "bird"]  # of cat a b c d, dog a b c d
LOSSES = np.array([1.0, 0.1, 3.0, 2.0, 4.0, 0.1, 5.0, 6.0])


class Said(SimpleNamespace):
    "An interpretation of which `interpreted` knows what a Learner said."

    def of(self, whole, **changed):
        "The same, of a Learner that holds the images `whole`."
        learn = SimpleNamespace(dls=SimpleNamespace(imgclean_items=whole))
        return Said(learn=learn, dl=None, losses=LOSSES, seen=self.seen._replace(**changed))


@pytest.fixture
def interp(shop, monkeypatch):
    probs = 0.1 + 0.7 * np.eye(3)[[CLASSES.index(name) for name in PREDICTED]]
    seen = Predictions(probs, LOSSES, CLASSES, False, Items.from_folder(shop))
    monkeypatch.setattr(predictions, "interpreted", lambda interp: interp.seen)
    return Said(seen=seen).of(seen.items)


def test_the_confused_images_come_by_pair_and_by_loss(interp):
    cleaner = ClassConfusion(interp, CLASSES)
    assert cleaner.confusions == {
        ("dog", "cat"): [2, 0], ("cat", "dog"): [6, 4], ("bird", "cat"): [3], ("bird", "dog"): [7],
    }  # fmt: skip
    assert [g[0] for g in cleaner.review.groups] == [7, 6, 4, 2, 3, 0]  # highest loss first
    assert cleaner.predicted == ["bird", "cat", "dog"] and cleaner.single
    assert row(cleaner.review, 0)["reason"] == "loss 6.00; model: bird 80 %, dog 10 %"


def test_some_classes_some_pairs_and_some_images(interp):
    assert set(ClassConfusion(interp, ["cat", "dog"]).confusions) == {("dog", "cat"), ("cat", "dog")}
    ordered = ClassConfusion(interp, [("dog", "cat")], is_ordered=True)
    assert ordered.confusions == {("dog", "cat"): [2, 0]}
    assert ClassConfusion(interp, ["cat", "dog"], cut_off=1).confusions[("cat", "dog")] == [6]
    nothing = ClassConfusion(interp, [("cat", "bird")], is_ordered=True)
    assert nothing.confusions == {} and len(nothing.review.groups) == 0


def test_a_pair_is_chosen(interp):
    cleaner, sent = ClassConfusion(interp, CLASSES), []
    cleaner.send = lambda message, buffers=None: sent.append(message)
    assert cleaner.show_pair("cat", "dog") == [6, 4] and cleaner.show_pair(actual="cat") == [2, 3, 0]
    cleaner.show_pair("dog", "cat")
    cleaner._send_page({"page": 0})
    assert [group["images"][0]["id"] for group in sent[-1]["groups"]] == [2, 0]
    cleaner.review.relabel(2, "dog")  # it stays where it was found
    assert cleaner.show_pair("dog", "cat") == [2, 0]


def test_a_class_that_nobody_knows_is_no_pair(interp):
    cleaner = ClassConfusion(interp, CLASSES)
    for pair in (("zebra", None), ("cat", "zebra")):
        with pytest.raises(ValueError, match="does not know the class 'zebra'; it knows bird, cat, dog"):
            cleaner.show_pair(*pair)


def test_every_image_of_the_learner_stays_in_the_dataset(interp, shop):
    whole = interp.seen.items
    some = [1, 3, 6, 7]
    part = dict(items=whole.subset(some), probs=interp.seen.probs[some], losses=LOSSES[some])
    cleaner = ClassConfusion(interp.of(whole, **part), CLASSES, path=shop)
    assert cleaner.confusions == {("cat", "dog"): [6], ("bird", "cat"): [3], ("bird", "dog"): [7]}
    assert {k.dataset for ks in cleaner.confusions.values() for k in ks} == {whole.key()}
    assert cleaner.show_pair("bird", "cat") == [3]
    cleaner.review.mark(6, "delete")
    cleaner.apply()
    listed = (shop / "cleaned.csv").read_text().splitlines()[1:]
    assert len(listed) == 7 and not any(line.startswith(whole.relpath(6)) for line in listed)


def test_a_file_that_is_listed_twice_and_one_that_cannot_be_read(interp):
    items = interp.seen.items
    whole = items.subset([0, 0, *range(8)])
    readable = interp.seen.items.without({3: "broken"})
    left = [0, 1, 2, 4, 5, 6, 7]
    part = dict(items=readable, probs=interp.seen.probs[left], losses=LOSSES[left])
    cleaner = ClassConfusion(interp.of(whole, **part), CLASSES)
    ds = cleaner.review.items
    assert len(ds) == 9 and [u.error for u in ds.unreadable] == ["broken"]
    found = {pair: [ds.paths[k] for k in ks] for pair, ks in cleaner.confusions.items()}
    assert found == {
        ("dog", "cat"): [items.paths[2], items.paths[0]],
        ("cat", "dog"): [items.paths[6], items.paths[4]],
        ("bird", "dog"): [items.paths[7]],
    }
    assert cleaner.confusions[("dog", "cat")][1] == 2  # the last of the three


def test_images_that_are_not_the_learners_stay_alone_and_it_is_said(interp, caplog):
    cleaner = ClassConfusion(interp.of(interp.seen.items.subset([0, 1])), CLASSES)
    assert len(cleaner.review.items) == 8
    assert "list the 8 images of the Interpretation alone, without the Learner's 2: 6 of them" in caplog.text


def test_a_learner_is_no_interpretation():
    with pytest.raises(TypeError, match=r"got a SimpleNamespace; give Class.*from_learner\(learn\)"):
        ClassConfusion(SimpleNamespace(dls=None, dl=None), CLASSES)


def test_the_matrix_is_drawn(interp):
    ax = ClassConfusion(interp, CLASSES, figsize=(3, 2)).plot()
    texts = {text.get_position(): text.get_text() for text in ax.texts}
    assert texts[(2, 1)] == "2" and texts[(0, 2)] == "1" and texts[(1, 1)] == ""  # (predicted, actual)
    assert tuple(ax.figure.get_size_inches()) == (3, 2)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((["cat", "cow"],), "does not know the class 'cow'; it knows bird, cat, dog"),
        ((["cat"],), "give at least two classes"),
        ((["cat", "dog"], True, 100), "with is_ordered=True give pairs"),
        ((["cat", "dog"], False, 0), "cut_off is 0"),
        ((["cat", "dog"], False, 100, ["age"]), "varlist chooses columns of a table"),
    ],
)
def test_what_does_not_fit_is_refused(interp, args, message):
    with pytest.raises(ValueError, match=message):
        ClassConfusion(interp, *args)
    with pytest.raises(ValueError, match="several labels"):
        ClassConfusion(interp.of(interp.seen.items, several=True), CLASSES)


def test_a_real_interpretation_is_taken(shop):
    from fastai.vision.all import (
        ClassificationInterpretation,
        ImageDataLoaders,
        Resize,
        resnet18,
        vision_learner,
    )

    dls = ImageDataLoaders.from_folder(shop, valid_pct=0.5, seed=1, item_tfms=Resize(32), bs=4)
    learn = vision_learner(dls, resnet18, pretrained=False)
    interp = ClassificationInterpretation.from_learner(learn)
    cleaner = ClassConfusion(interp, list(dls.vocab))
    matrix = interp.confusion_matrix()
    wrong = {(dls.vocab[p], dls.vocab[a]): n for (a, p), n in np.ndenumerate(matrix) if a != p and n}
    assert {pair: len(ks) for pair, ks in cleaner.confusions.items()} == wrong
    assert len(cleaner.review.items) == len(dls.train_ds) + len(dls.valid_ds)
    assert all(cleaner.review.items.splits[g[0]] == "valid" for g in cleaner.review.groups)
    learn.dls = dls.new_empty()  # as in an exported Learner
    assert len(ClassConfusion(interp, list(dls.vocab)).review.items) == len(dls.valid_ds)
    with pytest.raises(TypeError, match="got a Learner; give ClassificationInterpretation"):
        ClassConfusion(learn, list(dls.vocab))
