"""The Python side of the wire, with messages as the kernel delivers them; no browser."""

import io
import sys

import numpy as np
import pytest
from pictures import picture
from PIL import Image

from imgclean.dataset.items import Items
from imgclean.find.explain import Region
from imgclean.find.groups import Group, Groups
from imgclean.review.cleaner import ImageCleaner
from imgclean.review.shown import ROW


class Wire:
    "What a cleaner sends and receives"

    def __init__(self, cleaner):
        self.cleaner, self.sent = cleaner, []
        cleaner.send = lambda message, buffers=None: self.sent.append((message, buffers))

    def __call__(self, **message):
        "Deliver a message from the front end; returns what came back, acknowledgement last."
        self.sent.clear()
        self.cleaner._handle_msg(
            {"content": {"data": {"method": "custom", "content": message}}, "buffers": []}
        )
        return [m for m, _ in self.sent]


@pytest.fixture
def items(shop):
    return Items.from_folder(shop)


@pytest.fixture
def cleaner(items):
    groups = [Group((0, 2, 4), 0.99, (1.0, 0.995, 0.99), "largest"), Group((5, 7), 0.98, (1.0, 0.98))]
    return ImageCleaner(items, groups, duplicates=True)


@pytest.fixture
def wire(cleaner):
    return Wire(cleaner)


def test_v1s_call_and_the_shorter_one(items, shop, tmp_path):
    by_position = ImageCleaner(items, [0, 2, 5, 7], shop, 3, True)
    assert (
        by_position.review.groups == [(0, 2), (5, 7)]
        and by_position.batch_size == 3
        and not by_position.single
    )
    assert ImageCleaner(items, [(0, 2)]).review.path == shop
    assert ImageCleaner(items, [(0, 2)], tmp_path).review.path == tmp_path
    one_by_one = ImageCleaner(items, [3, 1], shop)
    assert one_by_one.review.groups == [(3,), (1,)] and one_by_one.single


def test_opening_draws_and_writes_nothing(cleaner, shop, capsys):
    assert capsys.readouterr().out == "" and not (shop / ".imgclean").exists()
    assert repr(cleaner) == "ImageCleaner(0/2 groups decided, 0 images marked for deletion)"


def test_a_page_has_all_that_a_person_sees(wire):
    (page,) = wire(type="page", page=0)
    assert page["page"] == page["last"] == 0 and page["counts"]["groups"] == 2
    first = page["groups"][0]
    assert (first["similarity"], first["reason"], first["more"]) == (0.99, "largest", 0)
    assert [i["id"] for i in first["images"]] == [0, 2, 4] and [i["similarity"] for i in first["images"]] == [
        1.0,
        0.995,
        0.99,
    ]
    image = first["images"][0]
    assert (image["name"], image["label"], image["pixels"], image["mark"]) == (
        "cat/a.jpg",
        "cat",
        "96×80",
        None,
    )
    assert wire(type="page", page=99)[0]["page"] == 0 and wire(type="page", page=-4)[0]["page"] == 0


def test_pages_hold_batch_size_rows(items):
    wire = Wire(ImageCleaner(items, [(k, k + 1) for k in range(7)], batch_size=3))
    sizes = [len(wire(type="page", page=p)[0]["groups"]) for p in range(3)]
    assert sizes == [3, 3, 1] and wire(type="page", page=0)[0]["last"] == 2


def test_a_row_names_what_is_protected(items):
    wire = Wire(ImageCleaner(items, [Group([2, 0, 4], protected=[0, 2]), (5, 7)]))
    assert [g["protected"] for g in wire(type="page", page=0)[0]["groups"]] == [[2, 0], []]


def test_a_huge_group_is_cut_for_the_screen_only(items):
    wire = Wire(ImageCleaner(items, [Group([k % 8 for k in range(1000)])]))
    row = wire(type="page", page=0)[0]["groups"][0]
    assert len(row["images"]) == ROW and row["more"] == 1000 - ROW


def test_pictures_come_as_small_jpegs_or_with_the_reason(wire, shop):
    picture(1, (900, 600)).save(shop / "cat/a.jpg")
    (shop / "cat/c.jpg").write_text("broken now")
    (shop / "dog/b.jpg").unlink()
    (answer,) = wire(type="pictures", ids=[0, 2, 5, 7])
    assert answer["ids"] == [0, 7] and set(answer["missing"]) == {2, 5}
    thumb, small = (Image.open(io.BytesIO(b)) for b in wire.sent[0][1])
    assert thumb.format == "JPEG" and max(thumb.size) == 240 and small.size == (96, 80)
    wire(type="pictures", ids=[0], full=True)
    assert Image.open(io.BytesIO(wire.sent[0][1][0])).size == (900, 600)


def test_a_changed_file_gets_a_new_thumbnail(wire, shop):
    wire(type="pictures", ids=[0])
    before = wire.sent[0][1][0]
    picture(50).save(shop / "cat/a.jpg")
    wire(type="pictures", ids=[0])
    assert wire.sent[0][1][0] != before


def test_actions_are_acknowledged_after_they_are_on_disk(wire, cleaner):
    changed, done = wire(type="do", do="mark", seq=7, ids=[2], value="delete")
    assert changed["type"] == "changed" and changed["marks"] == {2: "delete"}
    assert (done["type"], done["seq"], done["counts"]["delete"]) == ("done", 7, 1)
    assert '"cat/c.jpg":"delete"' in cleaner.review.ledger.path.read_text()
    wire(type="do", do="keep_only", seq=8, ids=[4], groups=[0])
    assert cleaner.deleted == [0, 2] and cleaner.kept == [4]
    wire(type="do", do="keep_all", seq=9, groups=[1])
    wire(type="do", do="keep_best", seq=10, groups=[0])
    wire(type="do", do="keep_best", seq=11, groups=[1])
    assert cleaner.deleted == [2, 4, 7] and cleaner.undecided == []
    wire(type="do", do="relabel", seq=12, ids=[0], value="dog")
    assert cleaner.relabeled == {0: "dog"} and cleaner.decisions["cat/a.jpg"] == "keep"
    for _ in range(6):
        wire(type="do", do="undo", seq=12)
    assert cleaner.deleted == [] and wire(type="do", do="undo", seq=13)[-1]["note"] == "nothing to undo"
    wire(type="do", do="redo", seq=14)
    assert cleaner.deleted == [2]


def test_apply_asks_first_and_refuses_to_lose_a_group(wire, cleaner, shop):
    wire(type="do", do="mark", seq=1, ids=[5, 7], value="delete")
    (plan,) = wire(type="plan")
    assert (plan["delete"], plan["images"], plan["lost"]) == (2, 8, [1])
    (refused,) = wire(type="do", do="apply", seq=2, lose_groups=False, action="csv")
    assert refused["type"] == "refused" and "lose every copy" in refused["text"]
    assert not (shop / "cleaned.csv").exists()
    (done,) = wire(type="do", do="apply", seq=3, lose_groups=True, action="csv")
    assert done["note"].startswith("wrote") and len((shop / "cleaned.csv").read_text().splitlines()) == 7


def test_apply_moves_files_if_asked_and_says_how_they_come_back(wire, cleaner, shop):
    wire(type="do", do="keep_best", seq=1, groups=[1])
    (plan,) = wire(type="plan", action="quarantine")
    assert (plan["action"], plan["move"], plan["n_refused"]) == ("quarantine", 1, 0)
    (done,) = wire(type="do", do="apply", seq=2, lose_groups=False, action="quarantine")
    assert (
        "cleaner.restore() brings the moved files back" in done["note"] and not (shop / "dog/d.jpg").exists()
    )
    (plan,) = wire(type="plan", action="quarantine")
    assert plan["refused"] == {} and plan["move"] == 0 and plan["files"] == []
    assert cleaner.restore().restored == ["dog/d.jpg"] and cleaner.plan("quarantine")["move"] == 1


def test_without_send2trash_the_trash_is_refused(wire, monkeypatch):
    monkeypatch.setitem(sys.modules, "send2trash", None)
    (refused,) = wire(type="do", do="apply", seq=2, lose_groups=False, action="trash")
    assert refused["type"] == "refused" and "imgclean[trash]" in refused["text"]


def test_filters_choose_the_pages(items):
    wire = Wire(
        ImageCleaner(items, [Group((0, 1), 0.9), Group((2, 5), 0.99), Group((6, 7), 0.95)], batch_size=1)
    )
    (page,) = wire(type="page", page=0)
    assert page["filter"]["state"] == "all" and page["groups"][0]["grade"] is None
    (filtered,) = wire(type="filter", fields={"sort": "similarity", "min_similarity": 0.95}, view="v")
    assert filtered["type"] == "filtered" and filtered["filter"]["sort"] == "similarity"
    pages = [wire(type="page", page=p)[0] for p in (0, 1)]
    assert [p["groups"][0]["id"] for p in pages] == [1, 2] and pages[0]["last"] == 1
    assert pages[0]["counts"]["shown"] == 2 and pages[0]["groups"][0]["clash"]
    wire(type="do", do="accept", seq=1, group=1)
    (ahead,) = wire(type="page", after=1, view="v")
    assert (ahead["focus"], ahead["page"]) == (2, 1)  # group 0 is not among these
    done = wire(type="do", do="undo", seq=2)[-1]
    assert done["group"] == {"id": 1, "page": 0}
    wire(type="filter", fields={"label": "no such"})
    assert wire(type="page", page=0)[0]["groups"] == [] and wire(type="page", after=-1)[0]["focus"] is None


def test_suggestions_are_accepted_for_a_page_or_for_all_exact(wire, cleaner):
    done = wire(type="do", do="accept_suggestions", seq=1, groups=[1], grade=None)[-1]
    assert "1 to keep, 1 to delete" in done["note"] and cleaner.deleted == [7]
    done = wire(type="do", do="accept_suggestions", seq=2, groups=None, grade="exact")[-1]
    assert cleaner.deleted == [7]
    assert done["note"] == "nothing was left to suggest; 1 left to you, whose labels differ"
    cleaner.review.relabel(4, "cat")
    done = wire(type="do", do="accept_suggestions", seq=3, groups=None, grade="exact")[-1]
    assert cleaner.deleted == [2, 4, 7]  # files with the same bytes
    assert done["note"] == "suggestions accepted: 1 to keep, 2 to delete; u or Undo takes it back"
    done = wire(type="do", do="accept_suggestions", seq=4, groups=None, grade="exact")[-1]
    assert done["note"] == "nothing was left to suggest"


def test_what_is_undone_out_of_sight_is_said(cleaner, items):
    "Of an earlier session: groups that were told to be none, and images that were told to be another picture."
    cleaner.review.not_duplicate(4, 0)
    cleaner.review.keep_all(1)
    again = ImageCleaner(items, cleaner.review.groups)
    wire = Wire(again)
    assert again.review.groups == [(0, 2)] and wire(type="page", page=0)[0]["counts"]["apart"] == 1
    done = wire(type="do", do="undo", seq=1)[-1]
    assert done["note"].startswith("undone for dog/b.jpg and 1 more, which this grid does not show")
    assert done["group"] is None and again.kept == [4]
    done = wire(type="do", do="undo", seq=2)[-1]
    assert done["note"].startswith("undone for dog/a.jpg, which") and done["group"]["id"] == 0
    again_said = wire(type="do", do="redo", seq=3)[-1]["note"]
    assert again_said == "done again for dog/a.jpg, which this grid does not show"
    wire(type="do", do="mark", seq=4, ids=[2], value="delete")
    assert wire(type="do", do="undo", seq=5)[-1]["note"] == ""
    assert ImageCleaner(items, [(5, 7), (0, 2, 4)]).review.groups == [(5, 7), (0, 2)]


def test_another_picture_is_shown_as_such(wire, cleaner):
    changed, _ = wire(type="do", do="not_duplicate", seq=1, ids=[4], group=0)
    assert changed["type"] == "reload" and cleaner.kept == [4]
    assert [g["apart"] for g in wire(type="page", page=0)[0]["groups"]] == [[4], []]
    assert ImageCleaner(cleaner.review.items, [(0, 2, 4)]).review.groups == [(0, 2)]


def test_how_two_images_lie_on_each_other(wire):
    (answer,) = wire(type="align", left=2, right=4, group=0)
    assert answer["sizes"] == [(96, 80)] * 2 and answer["matrix"] == [1, 0, 0, 1, 0, 0]  # equal files
    assert wire(type="align", left=0, right=5, group=0)[0]["matrix"] is None


def test_regions_that_agree_are_shown_where_the_groups_came_with_a_model(items, caplog):
    asked = []

    def explain(a, b):
        asked.append((a, b))
        return [Region(np.full((2, 2), value, np.float32), (0, 0, 1, 1)) for value in (0.5, 1)]

    groups = Groups([Group((0, 2, 4))])
    without = ImageCleaner(items, groups)
    groups.explain = explain
    wire = Wire(cleaner := ImageCleaner(items, groups))
    assert cleaner.explains and not without.explains and asked == []  # before anybody asks
    (answer,) = wire(type="explain", left=2, right=4)
    assert answer == {"type": "explained", "left": 2, "right": 4, "low": 0.5, "high": 1.0}
    assert asked == [(items.paths[2], items.paths[4])]
    assert [Image.open(io.BytesIO(png)).size for png in wire.sent[0][1]] == [(256, 213)] * 2
    (items.paths[4]).unlink()
    (answer,) = wire(type="explain", left=2, right=4)
    assert answer["low"] == 0.5 and cleaner.decisions == {}
    groups.explain = lambda a, b: 1 / 0
    (answer,) = Wire(ImageCleaner(items, groups))(type="explain", left=0, right=2)
    assert answer["error"] == "ZeroDivisionError: division by zero"
    assert Wire(without)(type="explain", left=0, right=2) == [] and "no model came" in caplog.text


def test_large_pictures_are_sent_as_large_as_a_message_may_be(wire, shop):
    noise = np.random.default_rng(0).integers(0, 256, (2600, 3400, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((3400, 2600)).save(shop / "cat/a.jpg", quality=95)
    picture(1, (3400, 2600)).save(shop / "cat/c.jpg")
    wire(type="pictures", ids=[0, 2], full=True)
    noisy, plain = (Image.open(io.BytesIO(b)) for b in wire.sent[0][1])
    assert max(noisy.size) == 2048 and plain.size == (3400, 2600)


def test_what_cannot_be_recorded_is_refused(wire, cleaner, monkeypatch):
    def full(line):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cleaner.review.ledger, "append", full)
    answers = wire(type="do", do="mark", seq=1, ids=[0], value="delete")
    assert [a["type"] for a in answers] == ["refused"] and cleaner.deleted == []


@pytest.mark.parametrize(
    "message",
    [
        {}, {"type": "rm -rf"}, {"type": "page"}, {"type": "page", "page": "x"}, {"type": "pictures", "ids": [99]},
        {"type": "pictures", "ids": "all"}, {"type": "do"}, {"type": "filter"}, {"type": "filter", "fields": {"sort": "x"}},
        {"type": "filter", "fields": [1]}, {"type": "align", "left": 0, "right": 1, "group": 99}, {"type": "plan", "action": "rm"},
        {"type": "explain", "left": 0, "right": 2}, {"type": "explain"},
        {"type": "filter", "fields": {"label": []}}, {"type": "do", "do": "accept_suggestions", "seq": 1}, {"type": "do", "do": "format", "seq": 1},
        {"type": "do", "do": "mark", "seq": 1}, {"type": "do", "do": "keep_all", "seq": 1, "groups": None}, {"type": "do", "do": "_record", "seq": 1},
        {"type": ["page"]},
    ],
)  # fmt: skip
def test_messages_that_make_no_sense_are_ignored_and_logged(wire, cleaner, caplog, message):
    wire(**message)
    assert "makes no sense" in caplog.text and cleaner.decisions == {}


def test_marks_of_unknown_items_are_refused(wire, cleaner):
    for ids, value in (([99], "delete"), ([-1], "keep"), ([0], "explode")):
        assert wire(type="do", do="mark", seq=1, ids=ids, value=value)[-1]["type"] == "refused"
    assert cleaner.decisions == {}


def test_python_side_actions_reach_the_screen(wire, cleaner):
    cleaner.review.keep_best(1)
    assert [m["type"] for m, _ in wire.sent] == ["changed"] and wire.sent[0][0]["marks"] == {
        5: "keep",
        7: "delete",
    }


def test_a_new_cleaner_continues_the_review(cleaner, wire, items):
    wire(type="do", do="keep_best", seq=1, groups=[0])
    again = ImageCleaner(items, cleaner.review.groups, duplicates=True)
    assert again.deleted == [2, 4] and repr(again).startswith("ImageCleaner(1/2 groups decided")


def test_wrong_arguments_are_refused(items):
    with pytest.raises(TypeError, match="dataset is a str"):
        ImageCleaner("folder", [])
    with pytest.raises(ValueError, match="at least one row"):
        ImageCleaner(items, [], batch_size=0)
    with pytest.raises(ValueError, match="item 8"):
        ImageCleaner(items, [(0, 8)])


def test_dataloaders_are_a_dataset_too(shop):
    from fastai.vision.all import ImageDataLoaders, Resize

    dls = ImageDataLoaders.from_folder(shop, valid_pct=0.25, item_tfms=Resize(32), bs=2)
    assert len(ImageCleaner(dls, [(0, 1)]).review.items) == 8


def test_the_button_counts_what_no_apply_has_carried_out(wire, cleaner, shop):
    def left(**message):
        return wire(**message)[-1]["counts"]["apply"]

    assert left(type="do", do="mark", seq=1, ids=[2, 7], value="delete") == 2
    assert left(type="do", do="relabel", seq=2, ids=[0], value="dog") == 3
    assert left(type="do", do="apply", seq=3, lose_groups=False, action="quarantine") == 0
    assert left(type="page", page=0) == 0 and cleaner.deleted == [2, 7]
    assert left(type="do", do="relabel", seq=4, ids=[0], value="bird") == 1  # another label, one image
    assert left(type="do", do="mark", seq=5, ids=[4], value="delete") == 2
    assert left(type="do", do="mark", seq=6, ids=[7], value=None) == 3  # cleaned.csv has it no more
    assert left(type="do", do="apply", seq=7, lose_groups=False, action="quarantine") == 0
    assert left(type="do", do="mark", seq=8, ids=[5], value="delete") == 1
    picture(99).save(shop / "dog/b.jpg")  # item 5, so that the decision no longer holds
    assert cleaner.apply(True).refused
    assert left(type="page", page=0) == 1


def test_views_hear_of_what_a_cell_applies_and_restores(wire, cleaner):
    wire(type="do", do="mark", seq=1, ids=[2, 7], value="delete")
    wire.sent.clear()
    cleaner.apply(action="quarantine")
    cleaner.restore()
    assert [m["counts"]["apply"] for m, _ in wire.sent] == [0, 2]
    assert all(m["type"] == "changed" and m["marks"] == {} for m, _ in wire.sent)
