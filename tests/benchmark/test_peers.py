import numpy as np
import pytest
from torch import nn

from imgclean.benchmark import peers
from imgclean.benchmark.scores import Truth, hits
from imgclean.dataset.items import Items
from imgclean.features.activations import embed
from imgclean.features.backbones import default_learner

TRUTH = Truth(("1", "2", "1", "3", "1", "4", "5", "4"), ("",) * 8)  # of the shop's files, sorted


@pytest.fixture
def items(shop):
    return Items.from_folder(shop)


def needs(package: str) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed; pip install {package}")


def test_phash_finds_equal_pictures_in_folders(items, monkeypatch):
    needs("imagededup")
    answer = peers.phash(items)
    assert TRUTH.pairs() <= answer.pairs and answer.seconds > 0
    assert answer.pairs <= {(i, j) for i, j, _ in answer.ranked}
    assert hits(answer.ranked, TRUTH)[:4].all() and answer.ranked.score[0] == 1


def test_cnn_is_the_same_network(items):
    needs("imagededup")
    answer = peers.cnn(items)
    assert TRUTH.pairs() <= answer.pairs and hits(answer.ranked, TRUTH)[:4].all()
    seen = embed(default_learner(items), items, pool=nn.AdaptiveAvgPool2d, progress=False)
    unit = seen.vectors / np.linalg.norm(seen.vectors, axis=1, keepdims=True)
    for i, j, cosine in answer.ranked:
        assert cosine == pytest.approx(unit[i] @ unit[j], abs=0.02)
        assert ((i, j) in answer.pairs) == (cosine >= 0.9)


def test_cleanvision_gives_pairs_and_no_ranking(items):
    needs("cleanvision")
    answer = peers.cleanvision(items)
    assert TRUTH.pairs() <= answer.pairs and answer.ranked is None


def test_lists_by_file_become_pairs(items):
    both = {
        "cat/a.jpg": [("cat/c.jpg", 3)],
        "cat/c.jpg": [("cat/a.jpg", 3)],
        "readme.txt": [("cat/a.jpg", 1)],
    }
    assert peers._scored(items, both) == {(2, 0): 3}
    assert peers._keys(items, {"dog/d.jpg": ["cat/a.jpg", "dog/b.jpg"]}) == {(7, 0), (7, 5)}
    assert len(peers._pairs({})) == 0
