"""One small Ray for all tests that need it, quiet, and pictures to look at."""

import os

import pytest
from pictures import write_pictures

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture(scope="session")
def small_ray():
    "Ray with two CPUs, and a GPU that it takes our word for."
    ray = pytest.importorskip("ray", reason="Ray is not installed; pip install 'imgclean[ray]'")
    pytest.importorskip("ray.data", reason="Ray Data is not installed; pip install 'imgclean[ray]'")
    from imgclean.scaleout import quiet

    quiet()
    start(ray)
    yield ray
    ray.shutdown()


def start(ray):
    "Ray waits 30 seconds for itself, which a busy machine may take longer for."
    for attempt in range(4):
        try:
            ray.init(
                num_cpus=2, num_gpus=1, object_store_memory=200 * 2**20, include_dashboard=False, log_to_driver=False
            )  # fmt: skip
            return
        except Exception:
            ray.shutdown()
            if attempt == 3:
                raise


@pytest.fixture
def photos(tmp_path):
    "Sixty pictures in two folders, all different."
    names = [f"{'ab'[k % 2]}/{k:03}.png" for k in range(60)]
    write_pictures(tmp_path / "photos", names, list(range(60)))
    return tmp_path / "photos"
