"""Plan, apply and restore: what is done, what is refused, and that no file is lost."""

import os
import sys
from dataclasses import replace

import pytest
import systems
from pictures import picture

from imgclean.dataset.items import Items
from imgclean.find.groups import Group
from imgclean.review.apply import EveryCopyLost
from imgclean.review.session import Review


@pytest.fixture
def items(shop):
    return Items.from_folder(shop)


@pytest.fixture
def review(items):
    review = Review(items, [Group((0, 2, 4)), Group((5, 7))])
    review.keep_best()
    return review


def tree(folder):
    files = (p for p in folder.rglob("*.jpg") if ".imgclean" not in p.parts)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def listed(review):
    return [line.split(",")[0] for line in (review.path / "cleaned.csv").read_text().splitlines()[1:]]


def with_path(items, path):
    "The items and one more, as a csv may list it."
    more = dict(paths=(*items.paths, path), labels=(*items.labels, None), splits=(*items.splits, None))
    return replace(items, **more)


GONE = {"cat/c.jpg", "dog/a.jpg", "dog/d.jpg"}


def test_a_plan_touches_nothing_and_says_all(review, shop):
    before = tree(shop)
    plan = review.plan("quarantine")
    assert (plan["delete"], plan["move"], plan["images"], plan["lost"]) == (3, 3, 8, [])
    assert plan["bytes"] == sum(len(before[name]) for name in GONE)
    assert {f["name"]: f["action"] for f in plan["files"]} == dict.fromkeys(GONE, "quarantine")
    assert {f["name"]: f["reason"] for f in plan["files"]}["dog/d.jpg"] == "dog/b.jpg stays"
    assert plan["undecided"] == 0
    assert {f["action"] for f in review.plan()["files"]} == {"leave out"} and review.plan()["move"] == 0
    assert tree(shop) == before and not (shop / "cleaned.csv").exists()
    assert not (shop / ".imgclean/quarantine").exists()


def test_a_plan_says_of_none_that_is_gone_that_it_stays(review, shop):
    (shop / "dog/b.jpg").unlink()
    (shop / "cat/a.jpg").write_bytes((shop / "cat/b.jpg").read_bytes())
    why = {f["name"]: f["reason"] for f in review.plan()["files"]}
    assert why["dog/d.jpg"] == "marked for deletion" and why["cat/c.jpg"] == "marked for deletion"
    assert review.plan()["lost"] == [0, 1]


def test_quarantine_and_back(review, shop):
    before = tree(shop)
    done = review.apply(action="quarantine")
    assert tree(shop).keys() == before.keys() - GONE == set(listed(review))
    assert done.quarantined == 3 and done.manifest.exists() and "3 files moved to" in str(done)
    assert review.applied == ({2, 4, 7}, {})
    assert set(review.restore(done).restored) == GONE and tree(shop) == before
    assert review.applied == (set(), {})  # there is something to apply again
    assert review.deleted == [2, 4, 7]  # the decisions stand


def test_applying_twice_is_harmless(review, shop):
    before = tree(shop)
    review.apply(action="quarantine")
    again = review.apply(action="quarantine")
    assert again.quarantined == 0 and again.manifest is None
    assert again.refused == {} and again.deleted == 3 and review.plan("quarantine")["move"] == 0
    assert set(review.restore().restored) == GONE and tree(shop) == before
    assert review.restore().restored == []
    review.apply(action="quarantine")
    review.restore()
    assert tree(shop) == before


def test_what_an_interrupted_apply_moved_comes_back_as_well(review, shop, monkeypatch):
    import imgclean.dataset.quarantine as quarantine

    before, rename = tree(shop), os.rename

    def killed(a, b):
        if str(a).endswith("d.jpg"):
            raise KeyboardInterrupt
        rename(a, b)

    monkeypatch.setattr(quarantine.os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        review.apply(action="quarantine")
    monkeypatch.undo()
    assert tree(shop).keys() == before.keys() - {"cat/c.jpg", "dog/a.jpg"}
    assert review.apply(action="quarantine").quarantined == 1
    assert set(review.restore().restored) == GONE and tree(shop) == before


def test_an_apply_that_moved_nothing_restores_nothing(review, shop):
    review.apply(action="quarantine")
    with pytest.raises(ValueError, match="moved no file"):
        review.restore(review.apply())
    assert tree(shop).keys().isdisjoint(GONE)


def test_a_review_after_the_quarantine_marks_no_copy_that_stayed(review, shop):
    "The digests of the removed files are those of the ones that were kept."
    review.undo()
    review.mark([2, 4, 7], "delete")  # the others carry no mark
    review.apply(action="quarantine")
    later = Review(Items.from_folder(shop), [(0, 1)], shop)
    assert later.deleted == [] and len(later.cleaned()) == 5


def test_trash_falls_back_to_the_quarantine(review, shop, monkeypatch):
    class Trash:
        @staticmethod
        def send2trash(path):
            if "cat" in path:
                raise OSError("no trash on this drive")
            os.rename(path, shop.parent / os.path.basename(path))

    monkeypatch.setitem(sys.modules, "send2trash", Trash)
    done = review.apply(action="trash")
    assert (done.quarantined, done.trashed) == (1, 2) and "2 files sent to the trash" in str(done)
    assert "cat/c.jpg" in review.restore(done).restored


def test_without_send2trash_nothing_happens(review, shop, monkeypatch):
    monkeypatch.setitem(sys.modules, "send2trash", None)
    with pytest.raises(ImportError, match="send2trash"):
        review.apply(action="trash")
    assert not (shop / "cleaned.csv").exists() and not (shop / ".imgclean/quarantine").exists()


def test_what_changed_since_it_was_marked_stays(review, shop):
    picture(99).save(shop / "dog/d.jpg")
    done = review.apply(action="quarantine")
    assert done.refused == {"dog/d.jpg": "it has changed since it was marked; look at it again"}
    assert (shop / "dog/d.jpg").exists() and "dog/d.jpg" in listed(review) and done.quarantined == 2
    (shop / "dog/b.jpg").touch()  # newer, but the same


def test_a_decision_about_a_copy_makes_no_changed_file_deleted(review, shop):
    "Nor where the new file is a copy of another image that is decided about."
    picture(2).save(shop / "cat/c.jpg", quality=95)  # as cat/b.jpg
    for k in (0, 1):
        review.mark(k, None)
        review.mark(k, "keep")
        assert list(review.plan("quarantine")["refused"]) == ["cat/c.jpg"]
    review.apply(action="quarantine")
    assert (shop / "cat/c.jpg").exists() and "cat/c.jpg" in listed(review)
    review.mark(2, None)
    review.mark(2, "delete")  # looked at again
    assert review.apply(action="quarantine").quarantined == 1


@pytest.mark.parametrize("reopened", [True, False])
def test_pictures_of_one_size_and_time_that_changed_places_stay(tmp_path, reopened):
    for k in range(3):
        picture(k).save(tmp_path / f"{k}.bmp")
        os.utime(tmp_path / f"{k}.bmp", (1, 1))
    review = Review(Items.from_folder(tmp_path), [(0, 1)])
    review.mark(1, "delete")
    for old, new in (("1", "x"), ("2", "1"), ("x", "2")):
        (tmp_path / f"{old}.bmp").rename(tmp_path / f"{new}.bmp")
    if reopened:
        review = Review(Items.from_folder(tmp_path), [(0, 1)])
    done = review.apply(action="quarantine")
    assert done.refused == {"1.bmp": "it has changed since it was marked; look at it again"}
    assert len(list(tmp_path.glob("*.bmp"))) == 3


def test_a_file_that_came_after_it_was_marked_stays(items, shop):
    review = Review(items, [(0, 1)])
    (shop / "cat/b.jpg").unlink()
    review.mark(1, "delete")
    picture(99).save(shop / "cat/b.jpg")
    done = review.apply(action="quarantine")
    assert done.refused == {"cat/b.jpg": "it was not there when it was marked; look at it again"}
    assert (shop / "cat/b.jpg").exists() and "cat/b.jpg" in listed(review)


def test_what_lies_in_the_quarantine_is_not_told_as_gone(review, shop):
    review.apply(action="quarantine")
    review.mark([5], "delete")
    (shop / "cat/c.jpg").write_bytes(b"something else")  # where an image was that has moved
    done = review.apply({1}, action="quarantine")
    assert done.quarantined == 1 and list(done.refused) == ["cat/c.jpg"]
    assert "has changed since" in done.refused["cat/c.jpg"]


def test_what_is_gone_is_said(review, shop):
    (shop / "cat/c.jpg").unlink()
    done = review.apply(action="quarantine")
    assert done.refused == {"cat/c.jpg": "the file is gone already"} and done.quarantined == 2
    assert "cat/c.jpg" not in listed(review)


def test_what_is_protected_stays_whoever_marked_it(review, items, shop):
    later = Review(items, [Group((0, 2, 4), protected=(4,)), Group((5, 7))])
    assert later.deleted == [2, 4, 7]  # marked before it was protected
    done = later.apply(action="quarantine")
    assert done.refused == {"dog/a.jpg": "it is protected"} and "dog/a.jpg" in listed(later)
    assert (shop / "dog/a.jpg").exists() and items.paths[4] in later.cleaned().paths


@systems.links
@pytest.mark.parametrize("how", ["file", "folder", "dots"])
def test_what_lies_outside_is_not_moved(shop, how):
    outside = shop.parent / "outside"
    outside.mkdir()
    picture(20).save(outside / "x.jpg")
    if how == "file":
        (shop / "cat/x.jpg").symlink_to(outside / "x.jpg")
    elif how == "folder":
        (shop / "linked").symlink_to(outside)
    items = Items.from_folder(shop)
    if how == "dots":
        items = with_path(items, shop / "../outside/x.jpg")
    k = next(k for k, p in enumerate(items.paths) if p.name == "x.jpg")
    review = Review(items, [(0, k)])
    review.mark([k, 1], "delete")
    done = review.apply(action="quarantine")
    assert list(done.refused.values()) == [f"it lies outside of {shop}"] and done.quarantined == 1
    assert (outside / "x.jpg").exists() and not any("x.jpg" in name for name in listed(review))


@systems.links
def test_a_file_that_a_kept_link_leads_to_stays(shop):
    (shop / "cat/link.jpg").symlink_to("a.jpg")
    items = Items.from_folder(shop)
    a, link = (
        next(k for k, p in enumerate(items.paths) if p.name == n and "cat" in p.parts)
        for n in ("a.jpg", "link.jpg")
    )
    review = Review(items, [(link, a)])
    review.keep_only(link)
    done = review.apply(action="quarantine")
    assert done.refused == {"cat/a.jpg": "cat/link.jpg, which stays, is the same file"}
    assert (shop / "cat/link.jpg").read_bytes()
    review.undo()
    review.keep_only(a)  # the link itself may go, and comes back
    done = review.apply(action="quarantine")
    assert (
        done.quarantined == 1 and not (shop / "cat/link.jpg").is_symlink() and (shop / "cat/a.jpg").exists()
    )
    review.restore(done)
    assert (shop / "cat/link.jpg").is_symlink() and (shop / "cat/link.jpg").read_bytes()


def reviewed(items, *, kept, deleted):
    "A review with these marks, given by name."
    at = {items.relpath(k): k for k in range(len(items))}
    review = Review(items, [(at[kept], at[deleted])])
    review.mark(at[kept], "keep")
    review.mark(at[deleted], "delete")
    return review


@systems.links
@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_that_a_kept_link_leads_through_stays(shop, absolute):
    (shop / "cat/m.jpg").symlink_to(shop / "dog/c.jpg" if absolute else "../dog/c.jpg")
    (shop / "dog/z.jpg").symlink_to(shop / "cat/m.jpg" if absolute else "../cat/m.jpg")
    review = reviewed(Items.from_folder(shop), kept="dog/z.jpg", deleted="cat/m.jpg")
    done = review.apply(action="quarantine")
    assert done.refused == {"cat/m.jpg": "dog/z.jpg, which stays, is the same file"}
    assert (shop / "dog/z.jpg").read_bytes() and (shop / "cat/m.jpg").is_symlink()


@systems.links
@pytest.mark.parametrize("link", [True, False])
def test_a_file_that_is_listed_by_two_folders_stays(shop, link):
    if link:
        (shop / "cat/l.jpg").symlink_to("../dog/c.jpg")
    else:
        picture(9).save(shop / "cat/l.jpg")
    (shop / "alias").symlink_to("cat")
    items = with_path(Items.from_folder(shop), shop / "alias/l.jpg")
    review = reviewed(items, kept="cat/l.jpg", deleted="alias/l.jpg")
    done = review.apply(action="quarantine")
    assert done.refused == {"alias/l.jpg": "cat/l.jpg, which stays, is the same file"}
    assert (shop / "cat/l.jpg").read_bytes()


@systems.links
def test_links_that_lead_in_circles_are_left_alone(shop):
    (shop / "cat/c.jpg").unlink()
    (shop / "cat/c.jpg").symlink_to("o.jpg")
    items = Items.from_folder(shop)
    (shop / "cat/c.jpg").unlink()
    (shop / "cat/c.jpg").symlink_to("c.jpg")
    review = reviewed(items, kept="cat/a.jpg", deleted="dog/a.jpg")
    assert review.apply(action="quarantine").quarantined == 1


def test_a_file_that_is_listed_twice_is_not_moved(items, shop):
    twice = Review(items.subset([0, 1, 0]), [(0, 2)])
    twice.keep_best()
    done = twice.apply(action="quarantine")
    assert "is the same file" in next(iter(done.refused.values())) and (shop / "cat/a.jpg").exists()


def test_a_copy_that_is_gone_or_changed_saves_no_group(review, shop):
    (shop / "dog/b.jpg").unlink()
    assert review.plan("quarantine")["lost"] == [1] == review.lost()
    picture(77).save(shop / "cat/a.jpg")  # kept, but no longer that picture
    with pytest.raises(EveryCopyLost, match=r"2 group\(s\).*#1, #2"):
        review.apply(action="quarantine")
    assert (shop / "dog/d.jpg").exists() and not (shop / "cleaned.csv").exists()


def test_groups_may_be_lost_one_by_one(review):
    review.mark([0, 5], "delete")
    with pytest.raises(EveryCopyLost, match=r"1 group\(s\).*#2"):
        review.apply(lose_groups=[0])
    assert review.apply(lose_groups=[0, 1]).deleted == 5


def test_a_copy_of_another_picture_saves_no_group(review):
    review.not_duplicate(4, 0)
    review.mark([0, 2], "delete")
    assert review.mark_of(4) == "keep" and review.lost() == [0]


def test_one_failure_stops_nothing_else(review, shop, monkeypatch):
    rename = os.rename

    def refuse(a, b):
        if str(a).endswith("c.jpg"):
            raise PermissionError(13, "Permission denied")
        rename(a, b)

    monkeypatch.setattr(os, "rename", refuse)
    done = review.apply(action="quarantine")
    assert done.refused == {"cat/c.jpg": "permission denied"} and done.quarantined == 2
    assert (shop / "cat/c.jpg").exists()


@pytest.mark.parametrize("before_the_moves", ["write_manifest", "write_csv"])
def test_no_file_moves_where_the_manifest_or_the_csv_cannot_be_written(
    review, shop, monkeypatch, before_the_moves
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"imgclean.review.apply.{before_the_moves}", full)
    before = tree(shop)
    with pytest.raises(OSError, match="No space"):
        review.apply(action="quarantine")
    assert tree(shop) == before and not (shop / "cleaned.csv").exists()


def test_wrong_arguments_are_refused(review, tmp_path):
    with pytest.raises(ValueError, match="action is 'unlink'; give one of csv, quarantine, trash"):
        review.apply(action="unlink")
    with pytest.raises(ValueError, match="nothing to restore"):
        review.restore()
    with pytest.raises(OSError):
        review.restore(tmp_path / "none.json")
