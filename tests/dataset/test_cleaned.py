import csv
import json
import os

import pytest
import systems
from pictures import write_pictures

from imgclean.dataset.cleaned import Ledger, data_deleter, fingerprint, is_unchanged, write_csv
from imgclean.dataset.items import Items


def rows(path):
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as f:
        return list(csv.reader(f))


def test_ledger_returns_what_was_appended(tmp_path):
    ledger = Ledger(tmp_path / "deep" / "review.jsonl")
    assert list(ledger.lines()) == []
    lines = [{"do": "mark", "mark": {f"{k}\n\udcff.jpg": "keep"}} for k in range(3)]
    for line in lines:
        ledger.append(line)
    assert list(Ledger(ledger.path).lines()) == lines


def test_ledger_survives_a_line_cut_off_at_every_byte(tmp_path):
    ledger = Ledger(tmp_path / "review.jsonl")
    ledger.append({"do": "first"})
    ledger.append({"do": "second"})
    data = ledger.path.read_bytes()
    first = data.index(b"\n") + 1
    for cut in range(first, len(data)):
        ledger.path.write_bytes(data[:cut])
        before = list(Ledger(ledger.path).lines())
        ledger.append({"do": "third"})
        after = list(Ledger(ledger.path).lines())
        assert before == [{"do": "first"}] and after[0] == before[0] and after[-1] == {"do": "third"}
        assert after[1:-1] == (
            [{"do": "second"}] if cut == len(data) - 1 else []
        )  # only its newline was lost


def test_ledger_returns_each_line_once_others_included(tmp_path):
    ours, theirs = Ledger(tmp_path / "review.jsonl"), Ledger(tmp_path / "review.jsonl")
    ours.append({"do": "a"})
    assert list(theirs.lines()) == [{"do": "a"}] == list(ours.lines())
    theirs.append({"do": "b"})
    assert list(ours.lines()) == [{"do": "b"}] and list(ours.lines()) == []


def test_ledger_ignores_garbage(tmp_path):
    path = tmp_path / "review.jsonl"
    path.write_bytes(b'{"do": "a"}\n[1, 2]\n\xff\xfe nonsense\n{"do": "b"}\n')
    assert [line["do"] for line in Ledger(path).lines()] == ["a", "b"]


def test_fingerprint_knows_touched_from_changed(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"one")
    was = json.loads(json.dumps(fingerprint(path)))
    assert is_unchanged(path, was)
    os.utime(path, (1, 1))
    assert is_unchanged(path, was)
    path.write_bytes(b"two")
    assert not is_unchanged(path, was)
    path.unlink()
    assert not is_unchanged(path, was)


def test_csv_lists_names_relative_to_its_folder(shop):
    target = write_csv(Items.from_folder(shop).subset([0, 5]), shop)
    assert rows(target) == [["name", "label"], ["cat/a.jpg", "cat"], ["dog/b.jpg", "dog"]]
    assert rows(write_csv(Items.from_folder(shop).subset([5]), shop / "cat"))[1] == ["../dog/b.jpg", "dog"]


@systems.names_of_bytes
def test_csv_survives_any_file_name(tmp_path):
    names = ["new\nline.jpg", 'quo"te, comma.jpg', "ünïcode 猫.jpg", "\udcff.jpg"]
    write_pictures(tmp_path, ["1.jpg"], [1])
    for name in names:
        os.link(tmp_path / "1.jpg", tmp_path / name)
    target = write_csv(Items.from_folder(tmp_path), tmp_path)
    assert sorted(row[0] for row in rows(target)[1:]) == sorted(["1.jpg", *names])


def test_an_older_csv_is_kept(shop):
    (shop / "cleaned.csv").write_text("name,label\nmine,by hand\n")
    items = Items.from_folder(shop)
    write_csv(items, shop)
    write_csv(items, shop)  # the same again: nothing new to keep
    write_csv(items.subset([0]), shop)
    kept = sorted(p.name for p in (shop / ".imgclean").iterdir())
    assert kept == ["cleaned-1.csv", "cleaned-2.csv"]
    assert (shop / ".imgclean/cleaned-1.csv").read_text() == "name,label\nmine,by hand\n"
    assert len(rows(shop / ".imgclean/cleaned-2.csv")) == 9


def test_data_deleter_leaves_images_out_and_touches_none(shop):
    items, files = Items.from_folder(shop), sorted(shop.rglob("*.jpg"))
    out = data_deleter(shop, items, [1, 0, 1])
    assert out == shop / "cleaned.csv" and len(rows(out)) == 1 + 6
    assert [row[0] for row in rows(out)[1:3]] == ["cat/c.jpg", "cat/d.jpg"] and files == sorted(
        shop.rglob("*.jpg")
    )
    for wrong in (8, -1):
        with pytest.raises(ValueError, match=f"there is no item {wrong}; items go from 0 to 7"):
            data_deleter(shop, items, [0, wrong])
