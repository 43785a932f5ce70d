import json
import os
import shutil

import pytest
from pictures import picture

from imgclean.dataset.identity import Identities
from imgclean.dataset.items import Items


def known(folder):
    return Identities(Items.from_folder(folder), folder)


def at(folder, name, files):
    "Name of the image that `name` means now, None where it is nowhere."
    who = known(folder)
    k = who.place(files).get(name)
    return None if k is None else who.names[k]


def files_of(folder, *names):
    who = known(folder)
    files = who.files([who.names.index(name) for name in names])
    return json.loads(json.dumps(files))


def test_a_line_knows_the_copies_of_what_it_speaks_of(shop):
    assert set(files_of(shop, "cat/b.jpg")) == {"cat/b.jpg"}
    assert set(files_of(shop, "cat/c.jpg")) == {"cat/a.jpg", "cat/c.jpg", "dog/a.jpg"}


def test_a_copy_that_changed_since_is_none(shop):
    who = known(shop)
    assert set(who.files([0])) == {"cat/a.jpg", "cat/c.jpg", "dog/a.jpg"}
    picture(99).save(shop / "cat/c.jpg")
    assert set(who.files([0])) == {"cat/a.jpg", "dog/a.jpg"}


def test_a_name_means_its_file_as_long_as_the_content_is_the_same(shop):
    files = files_of(shop, "cat/b.jpg")
    assert at(shop, "cat/b.jpg", files) == "cat/b.jpg"
    os.utime(shop / "cat/b.jpg", (1, 1))
    assert at(shop, "cat/b.jpg", files) == "cat/b.jpg"
    picture(99).save(shop / "cat/b.jpg")
    assert at(shop, "cat/b.jpg", files) is None


def test_a_name_follows_its_content(shop):
    files = files_of(shop, "cat/b.jpg")
    (shop / "cat/b.jpg").rename(shop / "dog/renamed.jpg")
    assert at(shop, "cat/b.jpg", files) == "dog/renamed.jpg"
    picture(99).save(shop / "cat/b.jpg")  # another picture under the old name
    assert at(shop, "cat/b.jpg", files) == "dog/renamed.jpg"


def test_a_removed_file_is_not_taken_for_a_copy_that_was_there_all_along(shop):
    files = files_of(shop, "cat/c.jpg")
    (shop / "cat/c.jpg").unlink()
    assert at(shop, "cat/c.jpg", files) is None
    (shop / "cat/a.jpg").rename(shop / "cat/elsewhere.jpg")  # nobody can tell which of the two this is
    assert at(shop, "cat/c.jpg", files) is None


def test_equal_files_that_moved_together_keep_their_names_ends(shop):
    files = files_of(shop, "cat/c.jpg")
    shutil.move(shop / "cat", shop / "animals")
    assert [at(shop, f"cat/{n}.jpg", files) for n in "ca"] == ["animals/c.jpg", "animals/a.jpg"]
    who = known(shop)
    assert {who.names[k] for k in who.place(files).values()} == {
        "animals/a.jpg",
        "animals/c.jpg",
        "dog/a.jpg",
    }


def test_what_is_gone_and_lines_of_old_are_known_by_name(shop):
    files = files_of(shop, "cat/b.jpg")
    who = known(shop)
    assert who.names[who.by_name("cat/b.jpg")] == "cat/b.jpg" and who.by_name("no/such.jpg") is None
    (shop / "cat/b.jpg").rename(shop / "cat/z.jpg")
    assert known(shop).place(files, moved=False) == {}
    assert who.place(files) == {"cat/b.jpg": who.by_name("cat/b.jpg")}  # listed before, and gone since


def test_other_content_of_the_same_size_and_time_is_not_taken_for_a_moved_file(tmp_path):
    for name, seed in (("a.bmp", 1), ("b.bmp", 2)):
        picture(seed).save(tmp_path / name)
        os.utime(tmp_path / name, (1, 1))
    files = files_of(tmp_path, "b.bmp")
    (tmp_path / "b.bmp").unlink()
    assert at(tmp_path, "b.bmp", files) is None


def test_a_file_is_hashed_again_only_when_it_changed(shop, monkeypatch):
    import imgclean.dataset.identity as identity

    hashed = []
    digest = identity.content_digest
    monkeypatch.setattr(identity, "content_digest", lambda p: hashed.append(p) or digest(p))
    who = known(shop)
    for _ in range(3):
        who.fingerprint(0)
    picture(7).save(shop / "cat/a.jpg")
    who.fingerprint(0)
    assert len(hashed) == 2
    (shop / "cat/a.jpg").unlink()
    with pytest.raises(OSError):
        who.fingerprint(0)
    assert who.files([0, 1]).keys() == {"cat/b.jpg"}
