from datetime import datetime

import pytest

from imgclean.find.keepers import POLICIES, choose_keeper


def fact(width=10, height=10, n_bytes=100, **more):
    return {"width": width, "height": height, "bytes": n_bytes} | more


def at(year, source="EXIF"):
    return {"time": datetime(year, 5, 3, 12, 30), "time_from": source}


@pytest.mark.parametrize(
    ("keep", "facts", "keeper", "reason"),
    [
        ("best", {3: fact(10, 10, 9), 1: fact(20, 10, 1)}, 1, "most pixels (20×10)"),
        ("best", {3: fact(n_bytes=9), 1: fact(n_bytes=1)}, 3, "as many pixels, largest file (9 B)"),
        ("best", {3: fact(), 1: fact()}, 1, "same size, first in the dataset"),
        ("best", {1: fact(20), 2: fact(20, n_bytes=200), 3: fact()}, 2, "most pixels (20×10)"),
        ("largest", {0: fact(20), 1: fact(n_bytes=2000)}, 1, "largest file (2.0 kB)"),
        ("largest", {0: fact(), 1: fact(20)}, 1, "same file size, most pixels (20×10)"),
        ("largest", {0: fact(), 1: fact()}, 0, "same size, first in the dataset"),
        ("sharpest", {0: fact(99, sharpness=51.4), 1: fact(sharpness=322.3)}, 1,
         "sharpest (variance of the Laplacian 320)"),
        ("sharpest", {0: fact(sharpness=321.0), 1: fact(20, sharpness=319.0)}, 1,
         "equally sharp, most pixels (20×10)"),
        ("oldest", {0: fact(**at(2020)), 1: fact(**at(2019, "file"))}, 1, "oldest (2019-05-03 12:30, file)"),
        ("newest", {0: fact(**at(2020)), 1: fact(**at(1959))}, 0, "newest (2020-05-03 12:30, EXIF)"),
        ("newest", {0: fact(**at(2020)), 1: fact(**at(2020))}, 0, "same time, same size, first in the dataset"),
        ("metadata", {0: fact(metadata=0), 1: fact(metadata=12)}, 1, "most metadata (12 EXIF entries)"),
        ("metadata", {0: fact(metadata=0), 1: fact(20, metadata=0)}, 1, "no metadata, most pixels (20×10)"),
        ("train", {0: fact(99, split="valid"), 1: fact(split="train")}, 1, "in train"),
        ("train", {0: fact(split=None), 1: fact(20, split="valid")}, 1, "none in train, most pixels (20×10)"),
        ("valid", {0: fact(split="train"), 1: fact(split="valid"), 2: fact(20, split="valid")}, 2, "in valid"),
        ("valid", {0: fact(split="valid"), 1: fact(20, split="valid")}, 1, "all in valid, most pixels (20×10)"),
        ("label", {0: fact(99, label="dog"), 1: fact(label="cat"), 2: fact(20, label="cat")}, 2,
         "label cat, as 2 of 3 labelled (others: 1 dog)"),
        ("label", {0: fact(label="dog"), 1: fact(20, label="cat")}, 1, "labels tie (cat, dog), most pixels (20×10)"),
        ("label", {0: fact(label="cat"), 1: fact(20, label="cat")}, 1, "same label, most pixels (20×10)"),
        ("label", {0: fact(20, label=None), 1: fact(label="cat")}, 1, "label cat, as 1 of 1 labelled"),
    ],
)  # fmt: skip
def test_policies_say_what_they_keep_and_why(keep, facts, keeper, reason):
    assert choose_keeper(facts, keep) == (keeper, reason)


def test_only_what_a_policy_needs_is_measured():
    class Lazy(dict):
        def __missing__(self, name):
            raise AssertionError(f"{name} was measured")

    facts = {0: Lazy(metadata=3), 1: Lazy(metadata=5)}
    with pytest.raises(AssertionError, match="width was measured"):
        choose_keeper(facts, "best")
    facts = {0: Lazy(fact(20)), 1: Lazy(fact())}
    assert choose_keeper(facts, "best")[0] == 0


def test_a_protected_item_is_the_keeper():
    facts = {0: fact(99), 1: fact(), 2: fact(20), 3: fact()}
    assert choose_keeper(facts, "best", {3, 77}) == (3, "protected")
    assert choose_keeper(facts, "best", [1, 2]) == (2, "protected; most pixels (20×10)")


def test_a_function_chooses_by_the_facts():
    facts = {4: fact(n_bytes=3), 7: fact(n_bytes=2)}
    assert choose_keeper(facts, lambda f: min(f, key=lambda k: f[k]["bytes"])) == (7, "chosen by keep")
    assert choose_keeper(facts, lambda f: (4, "because")) == (4, "because")
    assert choose_keeper(facts, lambda f: (max(f), "because"), {4}) == (4, "protected; because")
    for wrong in (5, None, "4", (5, "because"), [4]):
        with pytest.raises(
            ValueError, match=r"keep returned .*; return one of \[4, 7\], or it and the reason"
        ):
            choose_keeper(facts, lambda f: wrong)  # noqa: B023


def test_unknown_policies_are_refused_in_one_sentence():
    assert set(POLICIES) == {"best", "largest", "sharpest", "oldest", "newest", "metadata", "train", "valid", "label"}  # fmt: skip
    for wrong in ("biggest", None, 3):
        with pytest.raises(
            ValueError, match=r"keep is .*; give one of best, largest, .* or a function"
        ) as err:
            choose_keeper({0: fact()}, wrong)
        assert "\n" not in str(err.value)
