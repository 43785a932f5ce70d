import json
import os
import sys

import numpy as np
import pytest

from imgclean.dataset import stored
from imgclean.dataset.stored import load_arrays, save_arrays, written_whole

ARRAYS = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.array([], dtype=np.int64)}


@pytest.fixture
def file(tmp_path):
    save_arrays(tmp_path / "x.idx", "thing", {"n": 3, "name": "é"}, ARRAYS)
    return tmp_path / "x.idx"


def test_what_is_saved_is_what_is_loaded(file):
    about, arrays = load_arrays(file, "thing", ARRAYS)
    assert about["n"] == 3 and about["name"] == "é" and set(arrays) == {"a", "b"}
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], value)
        assert arrays[name].dtype == value.dtype


def test_every_damaged_byte_is_noticed_or_harmless(file):
    data = file.read_bytes()
    wrong = 0
    for at in range(len(data)):
        file.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        try:
            _, arrays = load_arrays(file, "thing", ARRAYS)
        except ValueError as err:
            assert "no thing of imgclean or is damaged" in str(err) or "version" in str(err)
            wrong += 1
        else:  # dates and other things that zip does not need
            np.testing.assert_array_equal(arrays["a"], ARRAYS["a"])
    assert wrong > len(data) / 2


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_file_cut_short_is_refused(file, cut):
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ValueError, match="no thing of imgclean"):
        load_arrays(file, "thing", ARRAYS)


def test_foreign_files_are_refused(file, tmp_path):
    (tmp_path / "text").write_text("centroids")
    np.save(tmp_path / "one.npy", np.ones(3))
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    np.savez(tmp_path / "objects.npz", about=np.array([{}], dtype=object))
    for name in ("text", "one.npy", "other.npz", "objects.npz"):
        with pytest.raises(ValueError, match="is no thing of imgclean"):
            load_arrays(tmp_path / name, "thing", ARRAYS)
    with pytest.raises(ValueError, match="is no other thing of imgclean"):
        load_arrays(file, "other thing", ARRAYS)
    with pytest.raises(FileNotFoundError):
        load_arrays(tmp_path / "nowhere", "thing", ARRAYS)


def test_a_newer_version_says_so(file, monkeypatch):
    monkeypatch.setattr(stored, "VERSION", 2)
    save_arrays(file, "thing", {}, ARRAYS)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="version 2, this imgclean reads version 1"):
        load_arrays(file, "thing", ARRAYS)


def test_a_failed_write_leaves_the_old_file_and_no_other(file):
    before = file.read_bytes()
    with pytest.raises(KeyboardInterrupt), written_whole(file) as f:
        f.write(b"half")
        raise KeyboardInterrupt
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as info, written_whole(tmp_path / "no" / "file"):
        pass
    assert info.value.filename == os.fspath(tmp_path / "no" / "file")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
def test_the_file_has_the_users_usual_mode(tmp_path):
    (tmp_path / "usual").write_text(json.dumps({}))
    with written_whole(tmp_path / "ours"):
        pass
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode
