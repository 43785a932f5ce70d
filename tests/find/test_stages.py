import numpy as np
from pictures import picture
from PIL import Image

from imgclean.dataset.items import Items
from imgclean.features.hashes import hash_items
from imgclean.find.groups import group_pairs
from imgclean.find.stages import equal_pairs, hash_pairs


def test_each_stage_finds_its_own(tmp_path):
    im = picture(1, (128, 96))
    im.save(tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes())
    im.save(tmp_path / "2.tiff")
    im.save(tmp_path / "3.jpg", quality=80)
    im.transpose(Image.Transpose.ROTATE_90).resize((60, 80)).save(tmp_path / "4.jpg")
    picture(2, (128, 96)).save(tmp_path / "5.png")
    Image.new("RGB", (50, 50), "red").save(tmp_path / "6.png")
    Image.new("RGB", (60, 60), "blue").save(tmp_path / "7.png")
    (tmp_path / "8.png").write_bytes(b"")
    (tmp_path / "9.png").write_bytes(b"")
    items = Items.from_folder(tmp_path)
    found = {
        name: sorted((j, i) for i, j, _ in pairs)
        for name, pairs in hash_pairs(hash_items(items, progress=False))
    }
    assert list(found) == ["exact", "same pixels", "perceptual"]
    assert found["exact"] == [(0, 1)] and found["same pixels"] == [(0, 1), (0, 2)]
    assert found["perceptual"] == [(i, j) for i in range(5) for j in range(i + 1, 5)]


def test_equal_pairs_are_a_star_that_groups_as_all_pairs_do():
    rng = np.random.default_rng(0)
    digests = [None if k == 9 else bytes([k]) for k in rng.integers(0, 10, 200)]
    pairs = equal_pairs(digests)
    every = [(i, j) for i in range(200) for j in range(i) if digests[i] and digests[i] == digests[j]]
    assert pairs.left_out == len(every) - len(pairs) and {(i, j) for i, j, _ in pairs} <= set(every)
    expected = {tuple(np.flatnonzero([d == bytes([k]) for d in digests])) for k in range(9)}
    for complete in (None, True):
        groups = group_pairs(pairs, lambda k: {"width": 1, "height": 1, "bytes": 1}, complete=complete)
        assert {tuple(sorted(g)) for g in groups} == expected
    assert len(equal_pairs([])) == 0
