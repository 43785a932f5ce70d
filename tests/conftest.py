"""Images made on the spot, a small Learner, a browser and a JupyterLab. No network, no GPU, no files of ours."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
CHROMIUM = os.environ.get("CHROMIUM_PATH") or shutil.which("chromium") or shutil.which("google-chrome")


def picture(seed: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    "A picture of coloured shapes that differs for every seed."
    rng = np.random.default_rng(seed)
    im = Image.new("RGB", size, tuple(rng.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(im)
    for _ in range(12):
        x, y = rng.integers(0, size[0]), rng.integers(0, size[1])
        r = int(rng.integers(6, 40))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x - r, y - r // 2, x + r, y + r // 2), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return im


def write_pictures(folder: Path, names: list[str], seeds: list[int]) -> None:
    for name, seed in zip(names, seeds, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(path, quality=95)


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
        pytest.skip("no Chromium found; install it (apt-get install chromium) or set CHROMIUM_PATH")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed; pip install -e .[dev]"
    )
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]  # fmt: skip
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()
