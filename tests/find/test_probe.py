import numpy as np
import pytest

from imgclean.find.probe import cross_validated_probs


def blobs(n, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return rng.normal(size=(n, 8)) + 6 * np.eye(8)[labels], labels


def test_probabilities_are_right_where_classes_lie_apart():
    vectors, labels = blobs(90)
    probs = cross_validated_probs(vectors, labels)
    assert probs.shape == (90, 3) and np.allclose(probs.sum(1), 1)
    assert (probs.argmax(1) == labels).all()


def test_no_image_tells_its_own_label():
    "A model that had met the label would repeat it; labels without any sense are guessed by chance."
    rng = np.random.default_rng(1)
    vectors, labels = rng.normal(size=(300, 200)), rng.integers(0, 2, 300)
    right = (cross_validated_probs(vectors, labels).argmax(1) == labels).mean()
    assert 0.4 < right < 0.6


def test_the_same_input_gives_the_same_output():
    vectors, labels = blobs(30)
    assert (cross_validated_probs(vectors, labels) == cross_validated_probs(vectors, labels)).all()


def test_small_classes_take_fewer_folds():
    vectors, labels = blobs(30)
    labels[labels == 2] = 0
    labels[[2, 5]] = 2
    assert cross_validated_probs(vectors, labels).shape == (30, 3)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 0, 1]])
def test_classes_that_cannot_be_learnt_are_refused(labels):
    with pytest.raises(ValueError, match="two classes or more"):
        cross_validated_probs(np.eye(3), np.array(labels))
