"""One small Ray for all tests that need it, quiet, and pictures to look at."""

import os
import time

import pytest
from pictures import write_pictures

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_agent_register_timeout_ms", "300000")


class Patient:
    "Python's `time` for Ray, which waits 30 seconds for itself to start: on a busy machine ten times as long."

    def __getattr__(self, name: str):
        return getattr(time, name)

    def monotonic(self) -> float:
        return time.monotonic() / 10


@pytest.fixture(scope="session")
def small_ray():
    "A small Ray, see `start`."
    ray = pytest.importorskip("ray", reason="Ray is not installed; pip install 'imgclean[ray]'")
    pytest.importorskip("ray.data", reason="Ray Data is not installed; pip install 'imgclean[ray]'")
    from imgclean.scaleout import quiet

    quiet()
    start(ray)
    yield ray
    ray.shutdown()


def start(ray) -> None:
    "Two CPUs, and a GPU that it takes our word for; or the Ray that RAY_ADDRESS names."
    ray._private.node.time = Patient()
    size = dict(num_cpus=2, num_gpus=1, object_store_memory=200 * 2**20, include_dashboard=False)
    ray.init(log_to_driver=False, **({} if "RAY_ADDRESS" in os.environ else size))


@pytest.fixture
def photos(tmp_path):
    "Sixty pictures in two folders, all different."
    names = [f"{'ab'[k % 2]}/{k:03}.png" for k in range(60)]
    write_pictures(tmp_path / "photos", names, list(range(60)))
    return tmp_path / "photos"
