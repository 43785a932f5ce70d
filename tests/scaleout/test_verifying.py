import sys
from functools import partial

import numpy as np
import pytest

pytest.importorskip("ray.data", reason="Ray Data is not installed; pip install 'imgclean[ray]'")

from fakes import names, vectors, write_embeddings
from pictures import picture
from ray import cloudpickle

from imgclean.dataset.items import Items
from imgclean.find.pairs import Pairs
from imgclean.find.stages import linked_pairs
from imgclean.find.verify import checked, verify_pairs
from imgclean.scaleout import verifying
from imgclean.scaleout.images import Images
from imgclean.scaleout.tables import number_rows
from imgclean.scaleout.verifying import LINKED, as_check, verify, with_linked

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
N = 12


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    "Twelve files: three copies each of four pictures; one of them is no image."
    folder = tmp_path_factory.mktemp("photos")
    for k, name in enumerate(names(N)):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(k % 4, (160, 120)).resize((160 - 10 * (k // 4), 120)).save(path)
    path.write_bytes(b"no image")
    return folder / "images", number_rows(write_embeddings(folder / "embeddings", names(N), vectors(N)))


@pytest.fixture
def pairs():
    i, j = np.tril_indices(N, -1)
    some = np.arange(len(i)) % 3 < 2
    return Pairs.of(i[some], j[some], np.linspace(0.5, 0.99, int(some.sum())))


def test_checks_are_those_of_one_machine(photos, pairs, small_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(verifying, "BATCH", 10)
    folder, numbering = photos
    table = verify(numbering, tmp_path, pairs, Images(folder))
    wanted = verify_pairs(Items.from_folder(folder), pairs, num_workers=0, progress=False)
    assert [as_check(row) for row in table.to_pylist()] == wanted
    assert {check.grade for check in wanted} >= {"edited", "similar"}
    assert len(list((tmp_path / "checks").glob("*.parquet"))) == -(-len(pairs) // 10)


def read(folder, asked, ids):
    for name in ids:
        with open(asked, "a") as f:
            f.write(name + "\n")
        yield name, (folder / name).read_bytes(), ""


def test_a_run_that_was_stopped_looks_at_the_rest_alone(photos, pairs, small_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(verifying, "BATCH", 10)
    folder, numbering = photos
    images = Images(fetch=partial(read, folder, tmp_path / "asked"))
    table = verify(numbering, tmp_path, pairs, images)
    assert set((tmp_path / "asked").read_text().split()) == set(names(N))
    (tmp_path / "asked").unlink()
    gone = sorted((tmp_path / "checks").glob("*.parquet"))[0]
    gone.unlink()
    (tmp_path / "checks/done.json").unlink()
    assert verify(numbering, tmp_path, pairs, images).equals(table)
    assert gone.exists() and len((tmp_path / "asked").read_text().split()) <= 20
    (tmp_path / "asked").unlink()
    fewer = pairs.above(float(pairs.score[len(pairs) // 2]))
    verify(numbering, tmp_path, fewer, images)
    assert verify(numbering, tmp_path, Pairs.of([], [], []), images).num_rows == 0


def test_images_that_two_others_link_have_a_look_as_well(photos, small_ray, tmp_path):
    folder, numbering = photos
    chain = Pairs.of([4, 8, 9], [0, 4, 0], [0.9, 0.8, 0.7])
    checks = verify(numbering, tmp_path, chain, Images(folder))
    pairs, stages, checks = with_linked(
        numbering, tmp_path, chain, np.full(3, "neighbours"), checks, Images(folder)
    )
    one = Items.from_folder(folder)
    same = checked(chain, verify_pairs(one, chain, num_workers=0, progress=False)).above(0.5)
    more = linked_pairs(same, chain)
    assert [(int(i), int(j)) for i, j in zip(pairs.i[3:], pairs.j[3:], strict=True)] == [(8, 0)]
    assert [(i, j) for i, j, _ in more] == [(8, 0)]
    assert list(stages) == ["neighbours"] * 3 + [LINKED] and checks.num_rows == 4
