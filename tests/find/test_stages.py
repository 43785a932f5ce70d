import numpy as np
import pytest
from pictures import picture
from PIL import Image

from imgclean.dataset.items import Items
from imgclean.features.hashes import hash_items
from imgclean.find.groups import group_pairs
from imgclean.find.pairs import Pairs
from imgclean.find.similarity import cosines, nearest
from imgclean.find.stages import LINKED, candidates, equal_pairs, hash_pairs, linked_pairs, neighbour_pairs


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


def test_neighbours_are_paired_once():
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    index, score = nearest(x, 4)
    index[3, 3] = -1  # fewer neighbours than asked for
    pairs = neighbour_pairs(index, score)
    slow = {(max(i, int(j)), min(i, int(j))) for i, row in enumerate(index) for j in row if j >= 0}
    assert {(i, j) for i, j, _ in pairs} == slow and len(pairs) == len(slow)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert all(abs(unit[i] @ unit[j] - s) < 1e-5 for i, j, s in pairs)


def test_candidates_are_named_after_the_first_stage_that_has_them():
    x = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
    x[4] = 0
    stages = [
        ("cheap", Pairs.of([3], [1], [0.1])),
        ("none", Pairs.of([], [], [])),
        ("dear", Pairs.of([5, 3, 4], [2, 1, 0], [0.9, 1, 0.2])),
    ]
    found = candidates(stages, x)
    assert {(i, j): s for (i, j, _), s in zip(found.pairs, found.stages, strict=True)} == {
        (3, 1): "cheap",
        (5, 2): "dear",
        (4, 0): "dear",
    }
    for i, j, score in found.pairs:
        length = np.linalg.norm(x[i]) * np.linalg.norm(x[j])
        assert score == pytest.approx(x[i] @ x[j] / length if length else 0, abs=1e-6)
    assert list(found.pairs.score) == sorted(found.pairs.score, reverse=True)
    assert len(cosines(x, np.array([], int), np.array([], int))) == 0


def test_linked_pairs_complete_what_hangs_together():
    chain = Pairs.of([1, 2, 3, 8], [0, 1, 2, 7], np.ones(4))
    known = chain.merge(Pairs.of([3, 9], [0, 8], [0.0, 0.0]))
    assert {(i, j) for i, j, _ in linked_pairs(chain, known)} == {(2, 0), (3, 1)}
    crowd = Pairs.of(np.arange(1, LINKED + 1), np.zeros(LINKED, int), np.ones(LINKED))
    assert not len(linked_pairs(crowd, crowd))
    assert len(linked_pairs(crowd.top(LINKED - 1), crowd)) == (LINKED - 1) * (LINKED - 2) // 2
