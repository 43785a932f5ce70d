"""Images made on the spot, a small Learner, a browser and a JupyterLab. No network, no GPU, no files of ours."""

import gc
import os
import shutil
from pathlib import Path

import pytest
from pictures import write_pictures

os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes share the cores already
if hasattr(os, "register_at_fork"):
    # Else a worker of a DataLoader may collect what an earlier test left behind, such as another DataLoader, and wait
    # seconds for workers that are not its own.
    os.register_at_fork(before=gc.freeze, after_in_parent=gc.unfreeze)
BROWSERS = (
    os.environ.get("CHROMIUM_PATH"),
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
)
CHROMIUM = next((path for path in map(shutil.which, filter(None, BROWSERS)) if path), None)


# They wait a lot, so the others are run beside them; or are long for one file, and nothing would be left to run beside them.
FIRST = ("tests/e2e/", "tests/test_notebooks.py", "tests/test_")
TOGETHER = ("tests/e2e/", "tests/scaleout/")


def pytest_collection_modifyitems(items):
    items.sort(
        key=lambda item: next(
            (k for k, start in enumerate(FIRST) if item.nodeid.startswith(start)), len(FIRST)
        )
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    "With `-n 2`, what shares fixtures stays in one process: a file, and all that drives the JupyterLab or Ray."
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid):
            together = next((folder for folder in TOGETHER if nodeid.startswith(folder)), None)
            return together or super()._split_scope(nodeid)

    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    "The user's cache is neither used nor changed, by child processes neither."
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "WIN_PD_OVERRIDE_LOCAL_APPDATA"):  # what platformdirs asks first
            patch.setenv(name, str(folder))
        yield folder


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    "Eight pictures in two classes: one three times, one twice, three once."
    names = [
        "cat/a.jpg",
        "cat/b.jpg",
        "cat/c.jpg",
        "cat/d.jpg",
        "dog/a.jpg",
        "dog/b.jpg",
        "dog/c.jpg",
        "dog/d.jpg",
    ]
    write_pictures(tmp_path / "shop", names, [1, 2, 1, 3, 1, 4, 5, 4])
    return tmp_path / "shop"


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    from imgclean.dataset.samples import sample_dataset

    return sample_dataset(tmp_path_factory.mktemp("sample") / "imgclean-sample")


@pytest.fixture(scope="session")
def found(sample):
    "The sample dataset, looked at once with the packaged backbone."
    from imgclean.formatter import DatasetFormatter

    return DatasetFormatter.from_similars(sample.path, progress=False)


@pytest.fixture(scope="session")
def chrome():
    "One browser for the whole run: a second sync_playwright() in a process fails."
    if not CHROMIUM:
        pytest.skip("no Chromium or Chrome found; install one or set CHROMIUM_PATH")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed; pip install -e .[dev]"
    )
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]  # fmt: skip
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        # Workers of a DataLoader that nothing holds any more were forked with Playwright's pipe, and would keep it open.
        gc.collect()
        browser.close()
