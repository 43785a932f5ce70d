"""Workers and drivers that are killed in the middle: what comes out is what an undisturbed run leaves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest

pytest.importorskip("ray.data", reason="Ray Data is not installed; pip install 'imgclean[ray]'")

from fakes import files, names, vectors, write_embeddings
from ray import cloudpickle

from imgclean.find.kmeans import KMeans
from imgclean.find.tiles import Rows as UnitRows
from imgclean.scaleout import clustering, joining
from imgclean.scaleout.joining import Alike, Rows
from imgclean.scaleout.tables import number_rows

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
N = 160


def wait_to_be_killed(note: Path) -> None:
    "The first process that comes here tells its number and waits; whoever comes later goes on."
    try:
        with open(note, "x") as f:
            f.write(str(os.getpid()))
    except FileExistsError:
        return
    time.sleep(600)


class Victim(Alike):
    def __init__(self, note: Path):
        object.__setattr__(self, "note", note)
        super().__init__(0.9)

    def edges(self, a: Rows, b: Rows | None, cluster: int | None):
        if len(a.number) > 5:
            wait_to_be_killed(self.note)
        return super().edges(a, b, cluster)


class VictimKMeans(KMeans):
    def nearest_of(self, rows: UnitRows, n: int):
        wait_to_be_killed(self.note)
        return super().nearest_of(rows, n)


def kill(note: Path) -> Thread:
    "A thread that kills whoever writes its number to `note`."

    def wait_and_kill():
        while not (note.exists() and note.read_text()):
            time.sleep(0.05)
        os.kill(int(note.read_text()), signal.SIGKILL)

    thread = Thread(target=wait_and_kill, daemon=True)
    thread.start()
    return thread


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, small_ray):
    "Embeddings, and the folder of a run that nobody disturbed."
    folder = tmp_path_factory.mktemp("undisturbed")
    embeddings = write_embeddings(folder / "embeddings", names(N), vectors(N, copies=50), 5)
    clusters = clustering.cluster(number_rows(embeddings), folder / "out", n_clusters=4, max_cluster_size=120)
    assert (clusters.blocks > 1).any() and (clusters.blocks == 1).any()
    join(embeddings, folder / "out", clusters, Alike(0.9))
    return embeddings, folder / "out"


def join(embeddings, out, clusters, kind):
    joining.join(
        number_rows(embeddings), out, kind, {}, method="clusters", clusters=clusters,
        max_cluster_size=None, num_partitions=3,
    )  # fmt: skip


def test_a_worker_is_killed_in_the_middle_of_the_assignment(undisturbed, tmp_path, monkeypatch):
    embeddings, wanted = undisturbed
    learn = clustering._centroids

    def centroids(*args):
        kmeans = learn(*args)
        kmeans.__class__, kmeans.note = VictimKMeans, tmp_path / "pid"
        return kmeans

    monkeypatch.setattr(clustering, "_centroids", centroids)
    killer = kill(tmp_path / "pid")
    clustering.cluster(number_rows(embeddings), tmp_path / "out", n_clusters=4, max_cluster_size=120)
    killer.join(1)
    assert not killer.is_alive()
    assert files(tmp_path / "out/clusters") == files(wanted / "clusters")


def test_a_worker_is_killed_in_the_middle_of_the_join(undisturbed, tmp_path):
    embeddings, wanted = undisturbed
    clusters = clustering.cluster(
        number_rows(embeddings), tmp_path / "out", n_clusters=4, max_cluster_size=120
    )
    killer = kill(tmp_path / "pid")
    join(embeddings, tmp_path / "out", clusters, Victim(tmp_path / "pid"))
    killer.join(1)
    assert not killer.is_alive()
    assert files(tmp_path / "out") == files(wanted)


def test_the_driver_is_killed_in_the_middle_of_the_join_and_started_again(undisturbed, tmp_path, monkeypatch):
    embeddings, wanted = undisturbed
    here = Path(__file__).parent
    search = os.pathsep.join(map(str, (here, here.parent, here.parents[1])))
    driver = subprocess.Popen(
        [sys.executable, here / "driver.py", embeddings, tmp_path / "out", tmp_path / "pid"],
        env=os.environ | {"PYTHONPATH": search},
    )
    while not (tmp_path / "pid").exists():
        assert driver.poll() is None, "the driver ended by itself"
        time.sleep(0.1)
    driver.kill()
    driver.wait()
    assert not (tmp_path / "out/join/done.json").exists()
    clusters = clustering.cluster(
        number_rows(embeddings), tmp_path / "out", n_clusters=4, max_cluster_size=120
    )
    join(embeddings, tmp_path / "out", clusters, Alike(0.9))
    assert files(tmp_path / "out") == files(wanted)
