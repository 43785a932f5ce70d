"""One small Ray for all tests that need it, quiet, and pictures to look at."""

import os
from contextlib import suppress

import psutil
import pytest
import systems
from pictures import write_pictures

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # 15 by default: beside other tests they would hardly run


@pytest.fixture(scope="session")
def small_ray():
    "A small Ray, see `start`."
    if not systems.RAY_ASKED:
        pytest.skip(systems.WHY_NO_RAY)
    ray = pytest.importorskip("ray", reason="Ray is not installed; pip install 'imgclean[ray]'")
    pytest.importorskip("ray.data", reason="Ray Data is not installed; pip install 'imgclean[ray]'")
    from imgclean.scaleout import quiet

    quiet()
    start(ray)
    yield ray
    ray.shutdown()


def start(ray, work=None) -> None:
    "`work`, by default two CPUs and a GPU that Ray takes our word for; again where a busy machine is too slow for it."
    size = dict(num_cpus=2, num_gpus=1, object_store_memory=200 * 2**20, include_dashboard=False)
    size = {} if "RAY_ADDRESS" in os.environ else size  # one that somebody has started for the tests
    before = psutil.Process().children(recursive=True)
    for left in reversed(range(5)):
        try:
            return work() if work else ray.init(log_to_driver=False, **size)
        except Exception:  # Ray gives up after some 15 seconds, and leaves processes behind
            if not left:
                raise
            ray.shutdown()
            for process in set(psutil.Process().children(recursive=True)) - set(before):
                with suppress(psutil.Error):
                    process.kill()


@pytest.fixture
def photos(tmp_path):
    "Sixty pictures in two folders, all different."
    names = [f"{'ab'[k % 2]}/{k:03}.png" for k in range(60)]
    write_pictures(tmp_path / "photos", names, list(range(60)))
    return tmp_path / "photos"
