import fnmatch
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import write_pictures

from imgclean.dataset.folders import label_from, wanted
from imgclean.dataset.items import Items


def slow_fits(name: str, pattern: str) -> bool:
    "Every way to lay the parts of a pattern over the name, or over one of the folders that it lies in."
    parts = [p for p in pattern.split("/") if p not in ("", ".")]
    if "/" not in pattern.rstrip("/"):
        parts = ["**", *parts]
    names = name.split("/")
    return any(names[:stop] in spelled(parts, names[:stop]) for stop in range(1, len(names) + 1))


def spelled(parts: list[str], names: list[str]) -> list[list[str]]:
    "`names` if the whole pattern spells them, as the only element; the pattern's `**` replaced by 0, 1, 2, … stars."
    if "**" not in parts:
        same = len(parts) == len(names) and all(
            fnmatch.fnmatchcase(n, p) for n, p in zip(names, parts, strict=True)
        )
        return [names] if same else []
    k = parts.index("**")
    least = 1 if k == len(parts) - 1 else 0
    return [
        found
        for n in range(least, len(names) + 1)
        for found in spelled([*parts[:k], *["*"] * n, *parts[k + 1 :]], names)
    ]


part = st.text("ab.", min_size=1, max_size=3).filter(lambda p: p.strip("."))
piece = st.one_of(part, st.sampled_from(["*", "**", "?", "a*", "[ab]", "[!a]b", "*.b"]))
pattern = st.builds(
    lambda parts, first, last: first + "/".join(parts) + last,
    st.lists(piece, min_size=1, max_size=4), st.sampled_from(["", "/", "./"]), st.sampled_from(["", "/"]),
)  # fmt: skip
name = st.lists(part, min_size=1, max_size=4).map("/".join)


@given(name, st.lists(pattern, max_size=2), st.lists(pattern, max_size=2))
def test_patterns_fit_what_a_slow_matcher_says(name, include, exclude):
    fits = not include or any(slow_fits(name, p) for p in include)
    assert wanted(include, exclude)(name) == (fits and not any(slow_fits(name, p) for p in exclude))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("thumbs", ["thumbs/1.jpg", "cat/thumbs/2.jpg"]),
        ("/thumbs", ["thumbs/1.jpg"]),
        ("*.png", ["cat/3.png"]),
        ("cat/*.png", ["cat/3.png"]),
        ("cat/**", ["cat/thumbs/2.jpg", "cat/3.png"]),
        ("thumbs.jpg/**", []),
        ("**/2.*", ["cat/thumbs/2.jpg"]),
    ],
)
def test_patterns_in_the_words_of_the_docs(pattern, names):
    every = ["thumbs/1.jpg", "cat/thumbs/2.jpg", "cat/3.png", "thumbs.jpg"]
    assert list(filter(wanted(pattern), every)) == names
    assert list(filter(wanted((), pattern), every)) == [n for n in every if n not in names]


@pytest.mark.parametrize("wrong", ["", "/", 3])
def test_what_is_no_pattern_is_refused(wrong):
    with pytest.raises(ValueError, match="is no pattern of names"):
        wanted([wrong])


def test_a_folder_is_read_without_what_is_excluded(tmp_path):
    write_pictures(tmp_path, ["cat/1.jpg", "cat/thumbs/1.jpg", "dog/2.png"], [1, 2, 3])
    items = Items.from_folder(tmp_path, exclude="thumbs")
    assert [items.relpath(k) for k in range(len(items))] == ["cat/1.jpg", "dog/2.png"]
    assert Items.from_folder(tmp_path, include=["*.png"]).labels == ("dog",)
    with pytest.raises(ValueError, match=r"none of the 3 images in .* fits include and exclude"):
        Items.from_folder(tmp_path, include="*.gif")


def test_labels_by_regular_expression_and_by_function(tmp_path):
    label = label_from(r"^(\w+?)_\d", tmp_path)
    assert label(tmp_path / "beagle_12.jpg") == "beagle" and label(tmp_path / "12.jpg") is None
    assert label_from(re.compile("/(.)"), tmp_path)(tmp_path / "a/b.jpg") == "b"
    assert label_from(lambda p: len(p.name), tmp_path)(Path("a.jpg")) == "5"
    for wrong in ("(", "a", "(a)(b)", 3):
        with pytest.raises(ValueError, match="one"):
            label_from(wrong, tmp_path)
