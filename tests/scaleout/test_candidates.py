import hashlib

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("ray.data", reason="Ray Data is not installed; pip install 'imgclean[ray]'")

from fakes import names, vectors, write_embeddings

from imgclean.find.stages import Neighbours, equal_pairs
from imgclean.scaleout.candidates import EXACT, Top, equal_files, find_candidates
from imgclean.scaleout.clustering import cluster
from imgclean.scaleout.tables import number_rows

K = 3


def keys(pairs):
    return {(i, j) for i, j, _ in pairs}


def test_exact_search_finds_the_neighbours_of_one_machine(tmp_path, small_ray):
    x = vectors(160, copies=40)
    numbering = number_rows(write_embeddings(tmp_path / "e", names(160), x))
    found, stages, said = find_candidates(
        numbering,
        tmp_path / "out",
        method="exact",
        clusters=None,
        k=K,
        min_similarity=-1,
        max_cluster_size=70,
    )
    assert keys(found) == keys(Neighbours(x, K).pairs()) and said["tasks"] == 15
    assert set(stages) == {"neighbours"}


def test_clusters_find_most_neighbours_and_no_other_pairs_above_the_floor(tmp_path, small_ray):
    x = vectors(200, copies=60)
    x[9] = x[8]  # the same file twice
    embeddings = write_embeddings(tmp_path / "e", names(200), x)
    clusters = cluster(number_rows(embeddings), tmp_path / "out", max_cluster_size=40)
    assert (clusters.blocks > 1).any()
    found, stages, _ = find_candidates(
        number_rows(embeddings),
        tmp_path / "out",
        method="clusters",
        clusters=clusters,
        k=K,
        min_similarity=0.9,
    )
    wanted = Neighbours(x, K).pairs().above(0.9)
    assert len(keys(found) & keys(wanted)) >= 0.95 * len(wanted)
    assert (found.score >= 0.9).all() and len(keys(found)) == len(found)
    assert [(i, j) for (i, j, _), stage in zip(found, stages, strict=True) if stage == EXACT] == [(9, 8)]


def test_the_nearest_in_a_stream_are_the_nearest_of_all():
    rng = np.random.default_rng(0)
    near = np.tril(rng.permutation(900).reshape(30, 30).astype(np.float32), -1)
    i, j = np.nonzero(near)
    top = Top(30, K)
    for some in np.array_split(rng.permutation(len(i)), 5):
        top.add(i[some], j[some], near[i[some], j[some]], near[i[some], j[some]] / 1000)
    both = near + near.T
    wanted = {tuple(sorted((k, int(o)), reverse=True)) for k in range(30) for o in np.argsort(-both[k])[:K]}
    assert keys(top.pairs()) == wanted
    for a, b, score in top.pairs():
        assert score == np.float32(both[a, b] / 1000)


def test_equal_files_are_paired_as_on_one_machine():
    digests = [hashlib.blake2b(bytes([k])).digest() for k in (1, 2, 1, 3, 2, 1, 4)]
    found, wanted = equal_files(pa.array(digests)), equal_pairs(digests)
    assert list(found) == list(wanted) and found.left_out == wanted.left_out == 1
