import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from imgclean.dataset.items import Items
from imgclean.features.predictions import predict
from imgclean.find.finder import SimilarityFinder
from imgclean.find.siamese import classifier_learner, encodings, eye_of, siamese_scores


@pytest.fixture(scope="module")
def classifier(folder):
    torch.manual_seed(0)
    learn = classifier_learner(folder, size=64)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(3, 3e-3)
    return learn


@pytest.fixture
def finder(classifier, learn, folder):
    return SimilarityFinder(classifier, learn, Items.from_folder(folder).paths)


def by_hand(learn, fn, paths):
    "Scores of one pair at a time."
    own, _ = encodings(learn, Items.from_paths([fn]), progress=False)
    each = [encodings(learn, Items.from_paths([path]), progress=False)[0] for path in paths]
    return [float(siamese_scores(learn, own, one)[0]) for one in each]


def test_files_of_the_predicted_class_are_ranked_as_one_by_one(finder, classifier, learn, folder):
    fn = folder / "red/0.png"
    label = predict(classifier, Items.from_paths([fn]), progress=False)
    label = label.classes[int(label.probs[0].argmax())]
    others = [p for p in finder.lbl2files[label] if p != fn]
    scores = dict(zip(others, by_hand(learn, fn, others), strict=True))
    found = finder.similar(fn, 20)
    assert [p for p, _ in found] == sorted(others, key=lambda p: -scores[p])
    assert np.allclose([score for _, score in found], [scores[p] for p, _ in found], atol=1e-4)
    first = others[:3]  # `compare_n` takes the first of the class, as the article does
    assert finder.predict(fn, 3, show=False) == max(first, key=scores.get)
    assert finder.similar(fn, 2) == found[:2]


def test_without_a_class_the_nearest_encodings_are_compared(learn, folder):
    finder = SimilarityFinder(None, learn, folder_items := Items.from_folder(folder))
    fn = folder / "blue/3.png"
    vectors, _ = encodings(learn, folder_items, progress=False)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    me = folder_items.paths.index(fn)
    near = [k for k in np.argsort(-(unit @ unit[me]), kind="stable") if k != me][:4]
    found = finder.similar(fn, 4, compare_n=4, within_class=False)
    assert {p for p, _ in found} == {folder_items.paths[k] for k in near}
    assert [s for _, s in found] == sorted((s for _, s in found), reverse=True)
    with pytest.raises(ValueError, match="no classifier to tell the class; give within_class=False"):
        finder.similar(fn)


def test_the_eye_is_built_once(learn, folder, monkeypatch):
    built = []

    def counted(*args):
        built.append(eye_of(*args))
        return built[-1]

    for module in ("finder", "siamese"):
        monkeypatch.setattr(f"imgclean.find.{module}.eye_of", counted)
    finder = SimilarityFinder(None, learn, Items.from_folder(folder))
    finder.similar(folder / "red/5.png", 3, within_class=False)
    assert len(built) == 1


def test_a_query_is_looked_at_once(finder, folder, monkeypatch):
    fn = folder / "red/5.png"
    before = finder.similar(fn, 3, within_class=False)
    monkeypatch.setattr("imgclean.find.finder.batch_of", None)  # nothing may be looked at
    assert finder.similar(fn, 3, within_class=False) == before


def test_both_images_are_drawn_with_the_percentage_and_then_with_maps(finder, folder):
    best = finder.predict(folder / "red/1.png", within_class=False)
    score = dict(finder.similar(folder / "red/1.png", 20, within_class=False, compare_n=15))[best]
    assert plt.gca().get_title() == f"{100 * score:.2f} % similarity"
    maps = finder.similar_cams()
    assert [m.shape for m in maps] == [(2, 2)] * 2 and all((m >= 0).all() for m in maps)
    shown = [ax.images[1] for ax in plt.gcf().axes]
    assert [image.norm.vmax for image in shown] == pytest.approx([float(m.max()) for m in maps], abs=1e-5)
    plt.close("all")


def test_what_cannot_be_compared(finder, learn, folder, tmp_path):
    with pytest.raises(ValueError, match="no pair yet; call predict first"):
        finder.similar_cams()
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"broken\.png: not an image that Pillow can read; give an image"):
        finder.predict(tmp_path / "broken.png")
    with pytest.raises(ValueError, match=r"none of the .* can be read"):
        SimilarityFinder(None, learn, [tmp_path / "broken.png"])
    with pytest.raises(ValueError, match="n is 0 and compare_n None; ask for at least one"):
        finder.similar(folder / "red/1.png", 0)
    one = SimilarityFinder(None, learn, [folder / "red/1.png"])
    with pytest.raises(ValueError, match=r"1\.png is the only one of its class; give within_class=False"):
        one.similar(folder / "red/1.png", within_class=False)
    odd = SimilarityFinder(finder.clearn, learn, [folder / "red/1.png"], label_func=lambda path: "green")
    with pytest.raises(ValueError, match="and none of the files is one; give within_class=False"):
        odd.similar(folder / "red/2.png")
    Image.new("L", (30, 50), 99).save(tmp_path / "grey.png")
    assert len(finder.similar(tmp_path / "grey.png", 2)) == 2
