"""The pictures of the documentation: `IMGCLEAN_PICTURES=docs/img pytest tests/e2e/test_pictures.py` makes them anew.

Without that, the groups are those that were planted, which need no Learner, and what is shown is looked at and thrown away.
"""

import os
import time
from pathlib import Path

import pytest
from PIL import Image

TARGET = os.environ.get("IMGCLEAN_PICTURES")
PLANTED = """ds = Items.from_folder(path)
rows = {ds.relpath(k): k for k in range(len(ds))}
idxs = [[rows[name] for name in plant.files] for plant in sample.planted if len(plant.files) > 1]"""
FOUND = """from imgclean import DatasetFormatter
ds, idxs = DatasetFormatter.from_similars(path, min_precision=.99, progress=False)"""
CODE = f"""from imgclean import ImageCleaner, Items, sample_dataset
sample = sample_dataset("imgclean-pictures")
path = sample.path
{FOUND if TARGET else PLANTED}
cleaner = ImageCleaner(ds, idxs, path, duplicates=True)
cleaner"""
RELABEL = "ImageCleaner(ds, [3, 11, 20, 28], path, duplicates=False)"


@pytest.fixture
def shoot(tmp_path):
    "Take a picture of the page under a name; it must show something."

    def take(page, name):
        time.sleep(0.5)
        target = Path(TARGET or tmp_path) / f"{name}.png"
        page.screenshot(path=target)
        picture = Image.open(target).convert("RGB")
        colours = picture.getcolors(picture.width * picture.height)
        assert picture.size == (1180, 980) and len(colours) > 3000
        if TARGET:
            picture = picture.quantize(256, dither=Image.Dither.NONE)  # a quarter of the bytes
            picture.save(target, optimize=True)

    return take


def test_the_grid(open_notebook, shoot):
    nb = open_notebook("duplicates.ipynb", [CODE, RELABEL])
    page = nb.page
    page.set_viewport_size({"width": 1180, "height": 980})
    nb.command("application:toggle-left-area")
    nb.command("notebook:run-cell")
    page.wait_for_selector(".imgclean-cell img[src^='blob:']", timeout=180000)
    page.locator(".imgclean-cell").nth(1).focus()
    for key in ("d", "ArrowRight", "d", "ArrowDown", "b", "ArrowDown", "ArrowRight", "o"):
        page.keyboard.press(key)
    page.wait_for_function(
        "[...document.querySelectorAll('.imgclean-cell img')].every(i => i.naturalWidth > 0)"
    )
    page.wait_for_function("document.querySelector('.imgclean').innerText.includes('OTHER PICTURE')")
    time.sleep(1)
    page.evaluate("document.querySelector('.imgclean').scrollTop = 0")
    shoot(page, "grid")
    page.evaluate("document.querySelector('.imgclean').scrollTop = 1e6")
    nb.theme("JupyterLab Dark", "false")
    shoot(page, "dark")
    nb.theme("JupyterLab Light", "true")

    page.locator("button", has_text="Compare").nth(1).click()
    loaded = "[...document.querySelectorAll('.imgclean-pane img')].every(i => i.src.startsWith('blob:') && i.naturalWidth > 0)"
    for key, mode in (("s", "side"), ("x", "difference"), ("v", "overlay")):
        page.keyboard.press(key)
        page.wait_for_function(loaded)
        shoot(page, f"compare-{mode}")
    page.keyboard.press("Escape")
    if TARGET:  # groups without a model have no regions; test_tutorial.py looks at them in any case
        page.locator("button", has_text="Compare").nth(4).click()
        page.keyboard.press("r")
        page.wait_for_function("document.querySelectorAll('.imgclean-map').length === 2")
        page.wait_for_function(loaded)
        shoot(page, "compare-regions")
        page.keyboard.press("Escape")

    page.get_by_role("button", name="Apply").click()
    page.get_by_label("also move the files").check()
    page.wait_for_function("document.querySelector('dialog').innerText.includes('leave the folder')")
    shoot(page, "apply")
    page.keyboard.press("Escape")

    page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1 }")
    nb.command("notebook:run-cell")
    page.wait_for_selector("select.imgclean-label", timeout=60000)
    page.locator("select.imgclean-label").first.select_option(index=2)
    page.evaluate("document.querySelectorAll('.imgclean')[1].scrollIntoView()")
    shoot(page, "relabel")
