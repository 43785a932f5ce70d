import matplotlib
import numpy as np
import pytest

from imgclean.dataset.items import Items
from imgclean.features import predictions
from imgclean.features.predictions import Predictions
from imgclean.review.confusion import ClassConfusion

matplotlib.use("agg")
CLASSES = ("bird", "cat", "dog")
PREDICTED = ["dog", "cat", "dog", "bird", "cat", "dog", "cat", "bird"]  # of cat a b c d, dog a b c d
LOSSES = np.array([1.0, 0.1, 3.0, 2.0, 4.0, 0.1, 5.0, 6.0])


@pytest.fixture
def interp(shop, monkeypatch):
    "An interpretation of which `interpreted` knows what a Learner said."
    probs = 0.1 + 0.7 * np.eye(3)[[CLASSES.index(name) for name in PREDICTED]]
    seen = Predictions(probs, LOSSES, CLASSES, False, Items.from_folder(shop))
    monkeypatch.setattr(predictions, "interpreted", lambda interp: interp)
    return seen


def test_the_confused_images_come_by_pair_and_by_loss(interp):
    cleaner = ClassConfusion(interp, CLASSES)
    assert cleaner.confusions == {
        ("dog", "cat"): [2, 0], ("cat", "dog"): [6, 4], ("bird", "cat"): [3], ("bird", "dog"): [7],
    }  # fmt: skip
    assert [g[0] for g in cleaner.review.groups] == [7, 6, 4, 2, 3, 0]  # highest loss first
    assert cleaner.predicted == ["bird", "cat", "dog"] and cleaner.single
    assert cleaner._row(0)["reason"] == "loss 6.00; model: bird 80 %, dog 10 %"


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
        ClassConfusion(interp._replace(several=True), CLASSES)


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
    assert len(cleaner.review.items) == len(dls.valid_ds)
