import matplotlib
import pytest

from imgclean.dataset.items import Items
from imgclean.find.groups import Suspect
from imgclean.review.corrector import PredictionsCorrector

matplotlib.use("agg")
CLASSES = ["bird", "cat", "dog"]


@pytest.fixture
def items(shop):
    return Items.from_paths(sorted(shop.rglob("*.jpg")))  # nobody labelled them


def test_predictions_are_corrected(items):
    cleaner = PredictionsCorrector(items, [3, 1], CLASSES, ["cat"] * 8)
    assert [list(g) for g in cleaner.review.groups] == [[3], [1]]
    assert cleaner.vocab == CLASSES and cleaner.single and not cleaner.deletes
    assert cleaner.corrections == {} and cleaner.show_corrections() is None
    cleaner.review.relabel(3, "bird")
    cleaner.review.relabel(1, "cat")  # it was right
    assert cleaner.corrections == {3: "bird"} and repr(cleaner).startswith("PredictionsCorrector(1/2")
    assert cleaner.corrected_labels() == ["cat"] * 3 + ["bird"] + ["cat"] * 4
    assert items.labels == (None,) * 8


def test_corrections_are_there_again_and_are_none_of_the_datasets_labels(items):
    PredictionsCorrector(items, [3], CLASSES, ["cat"] * 8).review.relabel(3, "dog")
    assert PredictionsCorrector(items, [0], CLASSES, ["cat"] * 8).corrections == {3: "dog"}
    assert sorted(p.name for p in (items.root / ".imgclean").iterdir()) == ["predictions.jsonl"]


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
    assert cleaner._row(0)["reason"] == "model: dog 97 %" and cleaner.predicted == ["dog"]


def test_there_is_a_label_for_each_image(items):
    with pytest.raises(ValueError, match="there are 2 labels for 8 images; give the predicted label of each"):
        PredictionsCorrector(items, [0], CLASSES, ["cat", "dog"])
