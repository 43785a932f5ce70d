import numpy as np
import pandas as pd
import pytest
from fastai.vision.all import L, MultiCategory

from imgclean.dataset.items import Items
from imgclean.find.groups import Suspect
from imgclean.find.suspects import (
    find_suspects,
    own_labels,
    percent,
    predicted_labels,
    read_items,
    read_labels,
)

PATHS = ["a/1.png", "a/2.png", "b/3.png"]
PROBS = np.array([[0.9, 0.1], [0.004, 0.996], [0.3, 0.7]])


@pytest.fixture
def items():
    return Items.from_paths(PATHS)


def test_the_most_doubtful_come_first_with_their_reason(items):
    given = read_labels(["cat", "cat", "dog"], PROBS)
    found = find_suspects(PROBS, items, given)
    assert found == [1, 2, 0] and all(isinstance(k, Suspect) for k in found)
    assert [k.reason for k in found] == [
        "model: dog 99 %, cat under 1 %", "model: dog 70 %, cat 30 %", "model: cat 90 %, dog 10 %",
    ]  # fmt: skip
    assert [k.predicted for k in found] == ["dog", "dog", "cat"]
    assert [k.score for k in found] == pytest.approx([0.004, 0.7, 0.9])
    assert {k.dataset for k in found} == {items.key()}
    assert find_suspects(PROBS, items, given, n=1) == [1]


def test_a_learners_own_losses_rank_where_they_are_given(items):
    given = read_labels(["cat", "cat", "dog"], PROBS)
    found = find_suspects(PROBS, items, given, by="loss", losses=np.array([0.1, 0.2, 5.0]))
    assert found == [2, 1, 0] and found[0].reason == "loss 5.00; model: dog 70 %, cat 30 %"
    assert find_suspects(PROBS, items, given, by="loss") == [1, 2, 0]


def test_neighbours_are_asked_and_quoted():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 10)
    vectors = rng.normal(size=(20, 8)) * 0.1 + 3 * np.eye(8)[label]
    given = label.copy()
    given[3] = 1
    items = Items.from_paths([f"{k}.png" for k in range(20)])
    flat = np.full((20, 2), 0.5)  # a model that knows nothing
    for by in ("neighbours", "combined"):
        found = find_suspects(flat, items, read_labels(given, flat, ["cat", "dog"]), by=by, vectors=vectors)
        assert found[0] == 3 and "neighbours: cat 9" in found[0].reason


def test_without_labels_the_unsure_are_ranked(items):
    given = read_labels(None, PROBS, ["cat", "dog"])
    found = find_suspects(PROBS, items, given, by="margin", n=2)
    assert found == [2, 0] and found[0].reason == "model: dog 70 %, cat 30 %"
    assert predicted_labels(PROBS, given) == ["cat", "dog", "dog"]


def test_several_labels_are_quoted_class_by_class(items):
    probs = np.array([[0.9, 0.7, 0.1], [0.1, 0.2, 0.1], [0.8, 0.1, 0.1]])
    given = read_labels([["x"], ["x"], []], probs, ["x", "y", "z"])
    found = find_suspects(probs, items, given)
    assert found == [1, 2, 0]
    assert [k.reason for k in found] == ["model: x 10 %", "model: x 80 %", "model: x 90 %, y 70 %"]
    assert found[2].predicted == "x;y" and found[0].predicted == ""
    nothing = find_suspects(probs[1:2], items.subset([2]), read_labels([[]], probs[1:2], ["x", "y", "z"]))
    assert nothing[0].reason == "model: no class"


@pytest.mark.parametrize(
    ("labels", "classes", "delim", "rows", "several"),
    [
        (["b", "a"], None, None, [[0, 1], [1, 0]], False),
        ([1, 0], None, None, [[0, 1], [1, 0]], False),
        (np.array([1, 0]), ["a", "b"], None, [[0, 1], [1, 0]], False),
        (["b", "a"], ["b", "a"], None, [[1, 0], [0, 1]], False),
        (["a;b", None], ["a", "b"], ";", [[1, 1], [0, 0]], True),
        ([["b"], {"a", "b"}], None, None, [[0, 1], [1, 1]], True),
        (np.array([[0, 1], [1, 1]]), ["a", "b"], None, [[0, 1], [1, 1]], True),
        ([[1], [0, 1]], ["a", "b"], None, [[0, 1], [1, 1]], True),
        (np.array([[False, True], [True, True]]), None, None, [[0, 1], [1, 1]], True),
        ([3, 5], [5, 3], None, [[0, 1], [1, 0]], False),
        ([0, 1], np.array([1, 0]), None, [[0, 1], [1, 0]], False),
        (np.array([1.0, 0.0]), None, None, [[0, 1], [1, 0]], False),
        ([5.0, 3.0], [5, 3], None, [[1, 0], [0, 1]], False),
        (["3", "5"], [5, 3], None, [[0, 1], [1, 0]], False),
        ([True, True], None, None, [[0, 1], [0, 1]], False),
        (np.array([True, False]), [True, False], None, [[1, 0], [0, 1]], False),
        (["a", float("nan")], ["a", "b"], ";", [[1, 0], [0, 0]], True),
        ([pd.NA, "b"], ["a", "b"], ";", [[0, 0], [0, 1]], True),
        ([["b"], None], ["a", "b"], None, [[0, 1], [0, 0]], True),
        ([L("b"), L("a", "b")], None, None, [[0, 1], [1, 1]], True),
        ([MultiCategory(["b"]), MultiCategory([])], ["a", "b"], None, [[0, 1], [0, 0]], True),
        ([frozenset("b"), frozenset("ab")], None, None, [[0, 1], [1, 1]], True),
        (L("b", "a"), None, None, [[0, 1], [1, 0]], False),
        (pd.Series(["b", "a"], index=[7, 8]), None, None, [[0, 1], [1, 0]], False),
    ],
)
def test_labels_are_read_in_every_form(labels, classes, delim, rows, several):
    given = read_labels(labels, np.full((2, 2), 0.5), classes, delim)
    assert given.rows.astype(int).tolist() == rows and given.several == several


@pytest.mark.parametrize("form", [pd.Categorical, lambda *a, **k: pd.Series(pd.Categorical(*a, **k))])
def test_pandas_categories_are_the_columns_in_their_order(form):
    flat = np.full((2, 2), 0.5)
    given = read_labels(form(["small", "large"], categories=["small", "large"]), flat)
    assert given.classes == ("small", "large") and given.rows.tolist() == [[True, False], [False, True]]
    given = read_labels(
        form([7, 7], categories=[9, 7]), flat
    )  # also where they are numbers, or one is missing
    assert given.classes == ("9", "7") and given.rows.tolist() == [[False, True]] * 2
    given = read_labels(form(["a", "b"], categories=["a", "b"]), flat, ["b", "a"])
    assert given.rows.tolist() == [[False, True], [True, False]]


def test_the_names_of_truth_values():
    assert read_labels([True, True], np.full((2, 2), 0.5)).classes == ("False", "True")


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([0, float("nan"), 1], None, "label nan, which is none of the 2 classes 0, 1; give it a label, or"),
        (["a", pd.NA, "b"], None, "label <NA>, which is none of the 2 classes a, b; give it a label, or"),
        (pd.Categorical(["a", None, "b"]), None, "label nan, which is none of the 2 classes a, b; give it a"),
        ([0, 0.5, 1], None, "label 0.5, which is none of the 2 classes 0, 1; give it the name or the column"),
        ([5, 0, 3], [3, 5], "label 0, which is none of the 2 classes 3, 5; give it the name"),
        ([0, -1, 1], None, "label -1, which"),
        ([0, float("inf"), 1], None, "label inf, which"),
        ([0, True, 1], ["a", "b"], "label True, which is none of the 2 classes a, b"),
        ([0, b"a", 1], None, "label b'a', which"),
        ([0, object, 1], None, "label <class 'object'>, which"),
        ([["a"], "ab", ["b"]], None, "image 1 has the label 'ab' and other images have lists; give each"),
        ([["a"], [None], ["b"]], None, "label None, which is none of the 2 classes a, b; give it a label"),
        ([["a"], [["b"]], ["b"]], ["a", "b"], r"image 1 has the label \['b'\], which is none"),
    ],
)
def test_labels_that_are_none_are_refused(labels, classes, message):
    with pytest.raises(ValueError, match=message) as err:
        read_labels(labels, PROBS, classes)
    assert "image 1 has the label " in str(err.value) and "\n" not in str(err.value)


def test_items_get_the_given_labels(items):
    given = read_labels(["cat", "cat", "dog"], PROBS)
    ds = read_items(PATHS, ["cat", "cat", "dog"], given)
    assert ds.labels == ("cat", "cat", "dog") and own_labels(ds) == ds.labels
    assert own_labels(items) is None and own_labels(PATHS) is None
    several = read_items(items, [["x", "y"], ["x"], []], read_labels([["x", "y"], ["x"], []], PROBS))
    assert several.labels == ("x;y", "x", None) and several.label_delim == ";"


def test_a_suspect_survives_a_pickle():
    import pickle

    k = pickle.loads(pickle.dumps(Suspect(3, 0.5, "cat", "why", b"key")))
    assert k == 3 and (k.score, k.predicted, k.reason, k.dataset) == (0.5, "cat", "why", b"key")


def test_percentages_are_never_surer_than_they_are():
    said = ["0 %", "under 1 %", "1 %", "50 %", "99 %", "100 %"]
    assert [percent(p) for p in (0, 0.0001, 0.012, 0.5, 0.9999, 1)] == said


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda items: read_labels(["a", "b", "c"], PROBS),
            "2 columns and there are 3 classes; give classes=",
        ),
        (lambda items: read_labels(["a", "z", "b"], PROBS, ["a", "b"]), "image 1 has the label 'z'"),
        (lambda items: read_labels([0, 7, 1], PROBS), "image 1 has the label 7, which is none of the 2"),
        (lambda items: read_labels(["a", None, "b"], PROBS), "image 1 has the label None"),
        (lambda items: read_items(items, [0, 1], read_labels([0, 1], PROBS)), "2 labels for 3 images"),
        (
            lambda items: find_suspects(PROBS[:2], items, read_labels(None, PROBS), by="margin"),
            "2 rows for 3 images",
        ),
        (
            lambda items: find_suspects(PROBS, items, read_labels([0, 1, 1], PROBS), n=-1),
            "-1 images are asked for",
        ),
        (
            lambda items: find_suspects(
                PROBS, items, read_labels([0, 1, 1], PROBS), by="neighbours", vectors=np.ones((2, 4))
            ),
            "2 vectors for 3 images",
        ),
        (
            lambda items: find_suspects(
                PROBS, items, read_labels([0, 1, 1], PROBS), by="loss", losses=np.array([1, np.nan, 2])
            ),
            "hold NaN; give 3 numbers",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(items, call, message):
    with pytest.raises(ValueError, match=message) as err:
        call(items)
    assert "\n" not in str(err.value)
