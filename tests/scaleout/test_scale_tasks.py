import numpy as np
import pytest

pytest.importorskip("ray.data", reason="Ray Data is not installed; pip install 'imgclean[ray]'")

from fakes import names, vectors, write_embeddings

from imgclean.benchmark.sizing import Dataset
from imgclean.scaleout import tasks
from imgclean.scaleout.tables import number_rows
from imgclean.scaleout.tasks import RETURNED, partitions, rows_in_file, take_rows


def test_partitions_are_as_many_as_a_task_may_return_and_larger_only_then(monkeypatch):
    monkeypatch.setattr(tasks, "n_cpus", lambda: 8)
    assert partitions(10, 100) == 8 and partitions(10, 3) == 3
    assert partitions(2**28 * 50 + 1, 10**9) == 51
    assert partitions(2**29 * (RETURNED - 1), 10**9) == RETURNED
    assert partitions(2**29 * 4 * RETURNED, 10**9) == 4 * RETURNED  # no task could hold larger ones


def test_the_simulation_cuts_as_the_join_does(monkeypatch):
    monkeypatch.setattr(tasks, "n_cpus", lambda: 1)
    for images in (10**4, 10**6, 10**8, 10**10):
        data = Dataset(images)
        assert data.partitions == partitions(int(data.shuffled), 10**9)


def test_rows_come_in_order_from_whatever_file_and_need_no_memory(tmp_path, small_ray):
    x, folder = vectors(50), tmp_path / "e"
    numbering = number_rows(write_embeddings(folder, names(50), x, 4))
    for rows in (np.arange(50), np.array([3, 17, 18, 49]), np.empty(0, dtype=np.int64)):
        np.testing.assert_array_equal(take_rows(numbering, rows), x[rows])
        file = tmp_path / f"{len(rows)}.npy"
        found = rows_in_file(numbering, rows, file)
        assert isinstance(found, np.memmap) and len(list(tmp_path.glob(".*"))) == 0
        np.testing.assert_array_equal(found, x[rows])
        np.testing.assert_array_equal(np.load(file), x[rows])
