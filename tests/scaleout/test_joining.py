import sys

import numpy as np
import pytest

pytest.importorskip("ray.data", reason="Ray Data is not installed; pip install 'imgclean[ray]'")

from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "find"))
from brute import check_pairs, cosines, lower
from fakes import files, names, vectors, write_embeddings

from imgclean.find.clusters import cluster_pairs
from imgclean.find.kmeans import KMeans
from imgclean.find.pairs import Pairs
from imgclean.find.similarity import similar_pairs
from imgclean.scaleout.clustering import CENTROIDS, Clusters, cluster
from imgclean.scaleout.joining import Alike, Rows, _scattered, _slices, join_pairs
from imgclean.scaleout.tables import begin, number_rows

LOW = 0.85


def same(found: Pairs, wanted: Pairs):
    assert {(i, j) for i, j, _ in found} == {(i, j) for i, j, _ in wanted}
    assert len(found) == len(wanted)
    np.testing.assert_allclose(np.sort(found.score), np.sort(wanted.score), atol=2e-6)


@pytest.fixture
def small(tmp_path):
    x = vectors(300, copies=80)
    x[7] = 0
    return x, write_embeddings(tmp_path / "embeddings", names(300), x), tmp_path / "out"


def test_exact_pairs_are_those_of_one_machine(small, small_ray):
    x, embeddings, out = small
    found = join_pairs(number_rows(embeddings), out, min_similarity=LOW, method="exact", max_cluster_size=120)
    check_pairs(found, lower(cosines(x)), LOW)
    assert (
        len(list((out / "join/edges").glob("*.parquet"))) == 15
    )  # five blocks of 60 rows, each pair of them


def test_pairs_within_clusters_are_those_of_one_machine(small, small_ray):
    x, embeddings, out = small
    clusters = cluster(number_rows(embeddings), out, n_clusters=4)
    found = join_pairs(number_rows(embeddings), out, min_similarity=LOW, clusters=clusters, num_partitions=2)
    same(found, cluster_pairs(x, min_similarity=LOW, n_clusters=4))
    assert found.left_out == 0


def test_a_cluster_with_half_of_all_images_is_split_and_loses_nothing(tmp_path, small_ray):
    x = vectors(240, copies=30)
    half = np.random.default_rng(1).permutation(240)[:120]
    x[half] = vectors(1, seed=5) + 0.1 * np.random.default_rng(2).normal(size=(120, 24)).astype(np.float32)
    embeddings = write_embeddings(tmp_path / "embeddings", names(240), x)
    split = cluster(number_rows(embeddings), tmp_path, n_clusters=3, n_assign=2, max_cluster_size=50)
    assert split.sizes.max() >= 120 and (split.blocks > 1).any()
    found = join_pairs(number_rows(embeddings), tmp_path, min_similarity=0.97, clusters=split)
    kmeans = KMeans.load(split.folder / CENTROIDS)
    same(found, cluster_pairs(x, min_similarity=0.97, n_assign=2, kmeans=kmeans))
    assert len(found) > 200
    assert not (tmp_path / "join/blocks").exists()


@pytest.mark.parametrize("sizes", [[5000, 10], [101], [100]])
def test_no_two_blocks_hold_more_than_a_task_may(sizes):
    clusters = Clusters(Path(), np.array(sizes), 100)
    for size, blocks in zip(sizes, clusters.blocks.tolist(), strict=True):
        assert (blocks == 1) == (size <= 100)
        if blocks > 1:
            # Also where the rows of a cluster come in turns.
            counts = np.bincount(_scattered(np.arange(size) * blocks) % blocks, minlength=blocks)
            assert np.sort(counts)[-2:].sum() <= 1.8 * 100


def test_two_blocks_find_the_pairs_between_them_alone():
    x = vectors(60, copies=20)
    a, b = np.arange(0, 60, 2), np.arange(1, 60, 2)
    found = Alike(LOW).edges(Rows(a, x[a], None), Rows(b, x[b], None), None).columns
    sims = lower(cosines(x))
    sims[(np.arange(60)[:, None] + np.arange(60)) % 2 == 0] = -np.inf
    check_pairs(Pairs.of(found["i"], found["j"], found["score"]), sims, LOW)


def test_a_pair_is_found_in_the_first_cluster_that_both_are_in():
    x = np.ones((2, 4), dtype=np.float32)
    rows = Rows(np.array([3, 8]), x, np.array([[1, 4, 6], [2, 4, 6]], dtype=np.int32))
    assert [len(Alike(0.9).edges(rows, None, c).columns["i"]) for c in (4, 6)] == [1, 0]


def test_a_crowd_of_copies_is_held_together_by_the_pairs_that_are_kept(tmp_path, small_ray):
    x = np.ones((80, 8), dtype=np.float32)
    rows = number_rows(write_embeddings(tmp_path / "embeddings", names(80), x))
    ask = dict(method="exact", max_cluster_size=40, max_pairs=100)
    found = join_pairs(rows, tmp_path / "out", min_similarity=0.9, **ask)
    from imgclean.find.linkage import connected

    assert connected(found) == [list(range(80))]
    assert len(found) <= 100 + 79 and len(found) + found.left_out == 80 * 79 // 2


def test_scores_do_not_depend_on_files_and_blocks(tmp_path, small_ray):
    x = vectors(150, copies=60)
    found = []
    for number, (parts, size) in enumerate([(1, 60), (4, 110)]):
        rows = number_rows(write_embeddings(tmp_path / f"e{number}", names(150), x, parts, seed=number))
        out = tmp_path / f"out{number}"
        found.append(join_pairs(rows, out, min_similarity=LOW, method="exact", max_cluster_size=size))
    assert list(found[0]) == list(found[1])


def test_slices_hold_every_row_once(tmp_path):
    numbering = number_rows(write_embeddings(tmp_path / "e", names(50), vectors(50), 4))
    blocks = _slices(numbering, 7)
    rows = [np.concatenate([s.number[s.start : s.stop] for s in block]) for block in blocks]
    assert all(len(block) == 7 for block in rows[:-1])
    assert sorted(np.concatenate(rows).tolist()) == list(range(50))


def test_what_is_done_is_not_done_again(small, small_ray):
    _, embeddings, out = small
    ask = dict(min_similarity=LOW, method="exact", max_cluster_size=200)
    first = join_pairs(number_rows(embeddings), out, **ask)
    before = files(out)
    times = {path: path.stat().st_mtime_ns for path in (out / "join/edges").iterdir()}
    (out / "join/done.json").unlink()
    gone = sorted((out / "join/edges").iterdir())[1]
    gone.unlink()
    assert list(join_pairs(number_rows(embeddings), out, **ask)) == list(first)
    again = {path: path.stat().st_mtime_ns for path in (out / "join/edges").iterdir()}
    assert [path for path in times if again[path] != times[path]] == [gone]
    assert files(out) == before


def test_other_clusters_are_joined_anew(small, monkeypatch):
    _, embeddings, out = small
    joined = []
    monkeypatch.setattr("imgclean.scaleout.joining._by_clusters", lambda *args: joined.append(args) or 0)
    clusters = Clusters(out / "clusters", np.array([150, 150]), 400)
    for seed in (0, 0, 1):
        begin(clusters.folder, {"seed": seed})
        join_pairs(number_rows(embeddings), out, min_similarity=0, clusters=clusters)
    assert len(joined) == 2


@pytest.mark.parametrize(
    "wrong, says",
    [({"min_similarity": 2}, "between -1 and 1"), ({"method": "magic"}, "give 'clusters' or 'exact'"), ({}, "needs the clusters")],
)  # fmt: skip
def test_wrong_settings_are_told(small, wrong, says):
    with pytest.raises(ValueError, match=says):
        join_pairs(number_rows(small[1]), small[2], **{"min_similarity": 0.9} | wrong)


def test_one_machine_agrees_with_itself():
    "The two that the tests above compare with."
    x = vectors(200, copies=80)
    assert len(cluster_pairs(x, min_similarity=LOW)) >= 0.9 * len(similar_pairs(x, min_similarity=LOW))
