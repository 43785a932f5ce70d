import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("ray.data", reason="Ray Data is not installed; pip install 'imgclean[ray]'")

from fakes import files, names, vectors, write_embeddings

from imgclean.find.kmeans import KMeans
from imgclean.scaleout.clustering import CENTROIDS, cluster
from imgclean.scaleout.tables import matrix, number_rows


def test_rows_are_in_their_nearest_clusters_and_those_are_of_one_machine(tmp_path, small_ray):
    x = vectors(200)
    embeddings = write_embeddings(tmp_path / "embeddings", names(200), x)
    found = cluster(number_rows(embeddings), tmp_path / "out", n_clusters=8, n_assign=2, seed=3)
    kmeans = KMeans(8, seed=3).fit(x)
    np.testing.assert_allclose(KMeans.load(found.folder / CENTROIDS).centroids, kmeans.centroids, atol=1e-6)
    wanted = np.sort(kmeans.nearest(x, 2)[0], axis=1)
    tables = [pq.read_table(file) for file in found.folder.glob("part-*.parquet")]
    rows = np.concatenate([table["row"].to_numpy() for table in tables])
    assert sorted(rows.tolist()) == list(range(200))
    np.testing.assert_array_equal(
        np.concatenate([matrix(table["clusters"]) for table in tables]), wanted[rows]
    )
    np.testing.assert_array_equal(found.sizes, np.bincount(wanted.ravel(), minlength=8))


def test_a_stage_that_was_stopped_goes_on_and_ends_alike(tmp_path, small_ray):
    embeddings = write_embeddings(tmp_path / "embeddings", names(90), vectors(90))
    found = cluster(number_rows(embeddings), tmp_path / "out")
    before = files(tmp_path / "out")
    kept, gone = sorted(found.folder.glob("part-*.parquet"))[:2]
    (found.folder / "done.json").unlink()
    gone.unlink()
    time = kept.stat().st_mtime_ns
    again = cluster(number_rows(embeddings), tmp_path / "out")
    assert files(tmp_path / "out") == before and kept.stat().st_mtime_ns == time
    np.testing.assert_array_equal(again.sizes, found.sizes)


def test_rows_of_zeros_are_in_no_cluster(tmp_path, small_ray):
    x = vectors(40)
    x[5] = 0
    embeddings = write_embeddings(tmp_path / "embeddings", names(40), x)
    found = cluster(number_rows(embeddings), tmp_path / "out", n_clusters=4, n_assign=3)
    assert found.sizes.sum() == 39 * 3


def test_settings_that_make_no_sense_are_refused(tmp_path):
    embeddings = write_embeddings(tmp_path / "embeddings", names(5), vectors(5))
    with pytest.raises(ValueError, match="n_assign is 0"):
        cluster(number_rows(embeddings), tmp_path / "out", n_assign=0)
    with pytest.raises(ValueError, match="max_cluster_size is 1"):
        cluster(number_rows(embeddings), tmp_path / "out", max_cluster_size=1)
