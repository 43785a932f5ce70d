from imgclean.dataset.images import open_image
from imgclean.dataset.items import Items
from imgclean.dataset.samples import SCENES, sample_dataset


def files(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*.jpg"))}


def test_every_planted_file_exists_and_all_but_one_open(sample):
    names = {name for plant in sample.planted for name in plant.files}
    assert names <= files(sample.path).keys()
    assert len(sample.planted) == 9 and len(sample.planted[0].files) == 5
    for name in names - {"texture/truncated.jpg"}:
        assert min(open_image(sample.path / name).size) > 50


def test_same_bytes_each_time_and_existing_files_are_left_alone(sample, tmp_path):
    again = sample_dataset(tmp_path / "again")
    assert files(again.path) == files(sample.path)
    (again.path / "animal/cat.jpg").write_bytes(b"mine")
    sample_dataset(again.path)
    assert (again.path / "animal/cat.jpg").read_bytes() == b"mine"


def test_the_scenes_are_25_in_10_labels(sample):
    assert len(SCENES) == 25
    assert len(Items.from_folder(sample.path).vocab) == 10
