import pytest

from imgclean.dataset.items import Items
from imgclean.formatter import DatasetFormatter
from imgclean.given import with_defaults


def test_the_file_gives_what_is_not_given(shop):
    items = Items.from_folder(shop)
    assert with_defaults(items, None, ()) == ("best", set(), None)
    (shop / "imgclean.toml").write_text('keep = "oldest"\nprotect = ["dog"]\nmin_precision = 0.8')
    assert with_defaults(items, None, ()) == ("oldest", set(items.paths[4:]), 0.8)
    assert with_defaults(items, "newest", "cat/a.jpg") == ("newest", {items.paths[0]}, 0.8)


def test_part_of_a_dataset_need_hold_nothing_that_the_file_protects(shop):
    (shop / "imgclean.toml").write_text('protect = ["dog", "cat/a.jpg"]')
    items = Items.from_folder(shop, exclude="dog")
    assert with_defaults(items, None, ())[1] == {shop / "cat/a.jpg"}
    with pytest.raises(ValueError, match=r"^protect names 'dog'"):
        with_defaults(items, None, "dog")


@pytest.mark.parametrize(
    ("text", "message"),
    [("keep = 'favourite'", "keep is 'favourite'; give one of"), ("protect = ['x']", "protect names 'x'")],
)
def test_what_the_file_cannot_mean_is_said_with_its_name(shop, text, message):
    (shop / "imgclean.toml").write_text(text)
    with pytest.raises(ValueError, match=f"imgclean.toml': {message}"):
        with_defaults(Items.from_folder(shop), None, ())
    with pytest.raises(ValueError, match=r"^protect names 'y'"):
        with_defaults(Items.from_folder(shop), "best", "y")


def test_groups_keep_what_the_file_says(shop):
    (shop / "imgclean.toml").write_text('keep = "label"\nprotect = ["dog"]\nmin_precision = 0.9')
    how = dict(progress=False, cache=False, num_workers=0)
    _, groups = DatasetFormatter.from_similars(shop, min_similarity=0.99, **how)
    assert groups.settings["keep"] == "label" and groups.settings["protected"] == 4
    _, groups = DatasetFormatter.from_similars(
        shop, min_similarity=0.99, keep="largest", protect="cat/a.jpg", **how
    )
    assert groups.settings["keep"] == "largest" and groups.settings["protected"] == 1
