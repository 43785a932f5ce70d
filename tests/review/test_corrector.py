import matplotlib
import numpy as np
import pytest

from imgclean.dataset.items import Items
from imgclean.find.groups import Suspect
from imgclean.review.corrector import PredictionsCorrector
from imgclean.review.shown import row

matplotlib.use("agg")
CLASSES = ["bird", "cat", "dog"]


@pytest.fixture
def items(shop):
    return Items.from_paths(sorted(shop.rglob("*.jpg")))  # nobody labelled them


def test_predictions_are_corrected(items):
    cleaner = PredictionsCorrector(items, [3, 1], CLASSES, ["cat"] * 8)
    assert [list(g) for g in cleaner.review.groups] == [[3], [1]]
    assert cleaner.vocab == CLASSES and cleaner.single and not (cleaner.deletes or cleaner.applies)
    assert cleaner.corrections == {} and cleaner.show_corrections() is None
    cleaner.review.relabel(3, "bird")
    cleaner.review.relabel(1, "cat")  # it was right
    assert cleaner.corrections == {3: "bird"} and repr(cleaner).startswith("PredictionsCorrector(2/2")
    assert cleaner.corrected_labels() == ["cat"] * 3 + ["bird"] + ["cat"] * 4
    assert items.labels == (None,) * 8


def test_corrections_are_there_again_and_are_none_of_the_datasets_labels(items):
    PredictionsCorrector(items, [3], CLASSES, ["cat"] * 8).review.relabel(3, "dog")
    assert PredictionsCorrector(items, [0], CLASSES, ["cat"] * 8).corrections == {3: "dog"}
    assert sorted(p.name for p in (items.root / ".imgclean").iterdir()) == ["predictions.jsonl"]


def test_what_an_image_is_holds_whatever_is_predicted_later(items):
    first = PredictionsCorrector(items, [3, 4], CLASSES, ["cat"] * 8)
    first.review.relabel(3, "dog")
    first.review.relabel(4, "cat")  # it was right
    later = PredictionsCorrector(items, [3, 4], CLASSES, ["bird"] * 8)
    assert later.corrections == {3: "dog", 4: "cat"}
    assert row(later.review, 0)["images"][0]["label"] == "dog"
    right = PredictionsCorrector(items, [3, 4], CLASSES, ["dog"] * 8)
    assert right.corrections == {4: "cat"} and not row(right.review, 0)["images"][0]["relabeled"]
    right.review.relabel(3, "dog")  # said before, and still so
    right.review.relabel(4, "dog")
    again = PredictionsCorrector(items, [3], CLASSES, ["cat"] * 8)
    assert again.corrections == {3: "dog", 4: "dog"}
    again.review.undo()
    assert again.corrected_labels() == ["cat"] * 3 + ["dog"] + ["cat"] * 4
    again.review.relabel(3, None)  # nothing is said of it any more
    assert PredictionsCorrector(items, [3], CLASSES, ["bird"] * 8).corrections == {4: "cat"}


def test_no_csv_is_written(items):
    cleaner, sent = PredictionsCorrector(items, [3], CLASSES, ["cat"] * 8), []
    cleaner.review.relabel(3, "dog")
    for call in (cleaner.apply, cleaner.plan, cleaner.review.apply):
        with pytest.raises(ValueError, match=r"no cleaned.csv; take \.corrected_labels\(\)"):
            call()
    cleaner.send = lambda message, buffers=None: sent.append(message)
    cleaner._receive(None, {"type": "plan", "view": "1", "action": "csv"}, None)
    assert [m["type"] for m in sent] == ["refused", "page"]  # the view waits for one of a page's messages
    cleaner._receive(
        None,
        {"type": "do", "do": "apply", "seq": 1, "view": "1", "action": "csv", "lose_groups": False},
        None,
    )
    said = [m["text"] for m in sent if m["type"] == "refused"]
    assert [text.split(";")[0] for text in said] == ["PredictionsCorrector writes no cleaned.csv"] * 2
    assert not list(items.root.rglob("cleaned.csv"))


@pytest.mark.parametrize("number", [int, np.int64, lambda k: np.array(k)])
def test_numbers_are_taken_as_their_text(items, number):
    cleaner = PredictionsCorrector(items, [3], [number(0), number(1)], [number(0)] * 8)
    assert cleaner.vocab == ["0", "1"]
    cleaner.review.relabel(3, "1")
    assert cleaner.corrections == {3: "1"} and cleaner.corrected_labels() == [*"0001", *"0000"]


def test_the_corrected_images_are_drawn(items):
    cleaner = PredictionsCorrector(items, range(8), CLASSES, ["cat"] * 8)
    cleaner.review.relabel([2, 5, 7], "dog")
    figure = cleaner.show_corrections(ncols=2, figsize=(4, 4))
    assert [ax.get_title() for ax in figure.axes] == ["2: cat → dog", "5: cat → dog", "7: cat → dog", ""]
    assert [len(ax.images) for ax in figure.axes] == [1, 1, 1, 0] and tuple(figure.get_size_inches()) == (
        4,
        4,
    )


def test_the_reason_and_the_prediction_reach_the_grid(items):
    idxs = [Suspect(2, 0.1, "dog", "model: dog 97 %", items.key())]
    cleaner = PredictionsCorrector(items, idxs, CLASSES, ["cat"] * 8)
    assert row(cleaner.review, 0)["reason"] == "model: dog 97 %" and cleaner.predicted == ["dog"]


def test_there_is_a_label_for_each_image(items):
    with pytest.raises(ValueError, match="there are 2 labels for 8 images; give the predicted label of each"):
        PredictionsCorrector(items, [0], CLASSES, ["cat", "dog"])
