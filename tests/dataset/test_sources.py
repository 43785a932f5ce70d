import pytest
from pictures import write_pictures

from imgclean.dataset.sources import read_source


def test_several_folders_are_one_dataset_with_a_split_each(tmp_path):
    write_pictures(tmp_path, ["old/cat/1.jpg", "old/dog/2.jpg", "new/photos/cat/3.jpg"], [1, 2, 3])
    items = read_source({"Training": tmp_path / "old", "val": tmp_path / "new/photos"})
    assert [items.relpath(k) for k in range(3)] == ["old/cat/1.jpg", "old/dog/2.jpg", "new/photos/cat/3.jpg"]
    assert items.splits == ("train", "train", "valid") and items.labels == ("cat", "dog", "cat")
    assert read_source({"holdout": tmp_path / "old"}).splits == ("holdout",) * 2


def test_folders_within_each_other_are_refused(tmp_path):
    write_pictures(tmp_path, ["all/cat/1.jpg", "all/valid/cat/2.jpg"], [1, 2])
    with pytest.raises(ValueError, match="share files"):
        read_source({"train": tmp_path / "all", "valid": tmp_path / "all/valid"})
