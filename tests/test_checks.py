import numpy as np
from pictures import picture, write_pictures

from imgclean import checks as remembering
from imgclean.checks import ROOM, _check, _row, remembered_checks
from imgclean.dataset.images import UnreadableImage
from imgclean.dataset.items import Items
from imgclean.find.pairs import Pairs
from imgclean.find.verify import Check, verify_pairs


def test_checks_are_remembered_by_content(tmp_path, monkeypatch):
    write_pictures(tmp_path / "a", [f"{k}.png" for k in range(6)], [1, 1, 2, 3, 1, 4])
    items = Items.from_folder(tmp_path / "a")
    pairs = Pairs.of(*np.tril_indices(6, -1), np.linspace(0, 1, 15))
    slow = verify_pairs(items, pairs, progress=False)
    asked = []

    def count(items, pairs, **settings):
        asked.append(len(pairs))
        return verify_pairs(items, pairs, **settings)

    monkeypatch.setattr(remembering, "verify_pairs", count)
    cache = tmp_path / "cache"
    assert remembered_checks(items, pairs.top(9), cache=cache, progress=False) == slow[:9]
    assert remembered_checks(items, pairs, cache=cache, progress=False) == slow
    (tmp_path / "a" / "0.png").rename(tmp_path / "a" / "00.png")  # the same content in the same place
    moved = Items.from_folder(tmp_path / "a")
    assert remembered_checks(moved, pairs, cache=cache, progress=False) == slow
    write_pictures(tmp_path / "a", ["5.png"], [9])
    assert remembered_checks(items, pairs, cache=cache, progress=False)
    # Four names, but equal files and equal cosines are the same pair; then the five pairs of the new picture.
    assert asked[:3] == [9, 6, 0] and asked[3] >= 5


def test_a_check_survives_the_way_to_the_disk_and_back():
    check = Check(
        0.1 + 0.2, "edited", "rotated by 5° clockwise", ((1 / 3, 0.0, -7e-9), (0.0, 1.0, 2.5)), True
    )
    assert _row(check).shape == (ROOM,) and _check(_row(check)) == check
    assert _check(_row(check._replace(transform=None))).transform is None
    assert _row(check._replace(what="x" * ROOM)) is None


def test_a_file_that_cannot_be_read_is_not_remembered(tmp_path):
    write_pictures(tmp_path, ["a.png", "b.png"], [1, 1])
    items = Items.from_folder(tmp_path)
    (tmp_path / "b.png").unlink()
    pairs = Pairs.of([1], [0], [1.0])
    for _ in range(2):
        assert remembered_checks(items, pairs, cache=tmp_path / "cache", progress=False)[0].probability == 0
    write_pictures(tmp_path, ["b.png"], [1])
    assert remembered_checks(items, pairs, cache=tmp_path / "cache", progress=False)[0].grade == "exact"


def test_the_other_way_round_is_another_look(tmp_path):
    im = picture(3, (200, 150))
    (tmp_path / "a").mkdir()
    im.save(tmp_path / "a" / "0.png")
    im.resize((100, 75)).save(tmp_path / "a" / "1.png")
    pairs = Pairs.of([1], [0], [0.9])

    def check():
        items = Items.from_folder(tmp_path / "a")
        return remembered_checks(items, pairs, cache=tmp_path / "cache", progress=False)[0]

    first = check()
    (tmp_path / "a" / "0.png").rename(tmp_path / "a" / "2.png")  # now it is the second of the two
    other = check()
    assert other.transform != first.transform
    assert other == verify_pairs(Items.from_folder(tmp_path / "a"), pairs, progress=False)[0]


def test_what_could_not_be_read_for_once_is_looked_at_again(tmp_path, monkeypatch):
    write_pictures(tmp_path, ["a.png", "b.png"], [1, 1])
    items, pairs = Items.from_folder(tmp_path), Pairs.of([1], [0], [1.0])

    def fails(*_):
        raise UnreadableImage("too many open files")

    with monkeypatch.context() as broken:
        broken.setattr("imgclean.find.verify.open_image", fails)
        assert remembered_checks(items, pairs, cache=tmp_path / "c", progress=False)[0].probability == 0
    assert remembered_checks(items, pairs, cache=tmp_path / "c", progress=False)[0].grade == "exact"
