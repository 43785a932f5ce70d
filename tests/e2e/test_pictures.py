"""The pictures of the documentation: `IMGCLEAN_PICTURES=docs/img pytest tests/e2e/test_pictures.py` makes them anew."""

import os
import time
from pathlib import Path

import numpy as np
from PIL import Image

CODE = """from imgclean.all import *
path = sample_dataset("imgclean-pictures").path
ds, idxs = DatasetFormatter.from_similars(path, progress=False)
ImageCleaner(ds, idxs, path, duplicates=True)"""


def test_the_grid(open_notebook, tmp_path):
    nb = open_notebook("duplicates.ipynb", [CODE])
    nb.page.set_viewport_size({"width": 1180, "height": 980})
    nb.command("application:toggle-left-area")
    nb.command("notebook:run-cell")
    nb.page.wait_for_selector(".imgclean-cell img[src^='blob:']", timeout=120000)
    nb.page.locator(".imgclean-cell").nth(1).focus()
    for key in ("d", "ArrowRight", "d", "ArrowDown", "b"):
        nb.page.keyboard.press(key)
    nb.page.wait_for_function(
        "[...document.querySelectorAll('.imgclean-cell img')].every(i => i.naturalWidth > 0)"
    )
    time.sleep(0.5)
    target = Path(os.environ.get("IMGCLEAN_PICTURES", tmp_path)) / "grid.png"
    nb.page.screenshot(path=target)
    shown = np.asarray(Image.open(target).convert("RGB"))
    assert shown.shape == (980, 1180, 3) and len(np.unique(shown.reshape(-1, 3), axis=0)) > 10_000
