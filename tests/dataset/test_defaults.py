import pytest
from pictures import write_pictures

from imgclean.dataset.defaults import Defaults
from imgclean.dataset.items import Items
from imgclean.dataset.sources import read_source

WHOLE = """
keep = "oldest"
protect = ["gold"]
include = ["*.jpg"]
exclude = ["thumbs"]
min_precision = 0.9
label = '([a-z]+)_\\d'
"""


def test_a_file_gives_every_default(tmp_path):
    assert Defaults.of(tmp_path) == Defaults() == Defaults.of(tmp_path / "nowhere")
    (tmp_path / "imgclean.toml").write_text(WHOLE)
    assert Defaults.of(tmp_path) == Defaults(
        "oldest", ("gold",), ("*.jpg",), ("thumbs",), 0.9, r"([a-z]+)_\d"
    )
    said = Defaults.of(tmp_path)
    (tmp_path / "imgclean.toml").write_text("\ufeff" + WHOLE, encoding="utf-8")  # as Notepad saves it
    assert Defaults.of(tmp_path) == said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keep = ", "is no TOML: .*; correct it"),
        ("\xff", "is no TOML"),
        ("kepe = 'best'", "there is no key 'kepe'; give keep, protect"),
        ("[keep]\nname = 'best'", "keep is {'name': 'best'}; give a text"),
        ("protect = 'gold'", "protect is 'gold'; give a list of texts"),
        ("exclude = [1]", "exclude is .*; give a list of texts"),
        ("include = ['/']", "include is .*; '/' is no pattern"),
        ("min_precision = true", "min_precision is True; give a share above 0"),
        ("min_precision = 1.5", "min_precision is 1.5"),
        ("label = 'a'", "label is 'a'; 'a' has 0 groups"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_key(tmp_path, text, message):
    (tmp_path / "imgclean.toml").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=f"imgclean.toml'.*{message}"):
        Defaults.of(tmp_path)


def test_folders_are_read_by_their_file_and_arguments_win(tmp_path):
    names = ["a/cat_1.jpg", "a/dog_2.jpg", "thumbs/cat_3.jpg", "a/cat_4.png"]
    write_pictures(tmp_path, names, [1, 2, 3, 4])
    (tmp_path / "imgclean.toml").write_text(WHOLE)
    items = Items.from_folder(tmp_path)
    assert [items.relpath(k) for k in range(len(items))] == names[:2] and items.labels == ("cat", "dog")
    items = read_source(tmp_path, labels=lambda p: "x", include="cat_*", exclude="nothing")
    assert [items.relpath(k) for k in range(len(items))] == ["a/cat_1.jpg", "a/cat_4.png", "thumbs/cat_3.jpg"]
    assert items.labels == ("x", "x", "x")
