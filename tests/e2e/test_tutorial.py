"""The tutorial in JupyterLab, as a person uses it: look, mark by mouse and keyboard, apply, read the csv."""

import csv
import json
import time
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
GRID = "ImageCleaner(ds, idxs"


def marks(nb):
    return json.loads(nb.python("import json; print(json.dumps(cleaner.decisions))"))


@pytest.fixture
def grid(open_notebook, lab):
    "The tutorial, run up to the grid."
    nb = open_notebook("tutorial.ipynb", source=REPO / "nbs" / "01_find_duplicates.ipynb")
    index = nb.page.evaluate(
        "text => window.jupyterapp.shell.currentWidget.content.widgets.findIndex(w => w.model.sharedModel.source.includes(text))",
        GRID,
    )
    nb.page.evaluate("k => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = k }", index)
    nb.command("notebook:run-all-above")
    nb.command("notebook:run-cell")
    nb.page.wait_for_selector(".imgclean-cell img[src^='blob:']", timeout=180000)
    return nb


def test_mark_by_mouse_and_keyboard_apply_and_read_the_csv(grid, lab):
    sample, page = lab[1] / "imgclean-sample", grid.page
    before = {p: p.read_bytes() for p in sample.rglob("*.jpg")}
    rows = page.locator(".imgclean-row")
    assert rows.count() == 5 and rows.first.locator(".imgclean-cell").count() == 5
    page.wait_for_function(
        "[...document.querySelectorAll('.imgclean-cell img')].every(i => i.naturalWidth > 0)"
    )

    groups = json.loads(
        grid.python("import json; print(json.dumps([[ds.relpath(k) for k in g] for g in idxs]))")
    )
    cups, first, second, next_page = groups[0], groups[1], groups[2], groups[5]
    rows.nth(1).locator(".imgclean-cell").nth(1).click()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("k")
    rows.first.locator(".imgclean-cell").first.focus()
    page.keyboard.press("b")  # one cup of coffee
    page.keyboard.press("d")  # not that one after all …
    page.keyboard.press("u")  # … but yes
    page.keyboard.press("PageDown")
    page.wait_for_function("document.querySelectorAll('.imgclean-row').length === 3")
    page.keyboard.press("a")  # these may all stay
    grid.wait("len(cleaner.decisions) == 5 + 1 + 2 + 2")
    expected = {name: "delete" for name in (*cups[1:], first[1], *second[1:])} | {
        name: "keep" for name in (cups[0], second[0], *next_page)
    }
    assert len(cups) == 5
    assert marks(grid) == expected
    assert not (sample / "cleaned.csv").exists()

    page.get_by_role("button", name="Apply 6…").click()
    page.get_by_role("button", name="Write cleaned.csv").click()
    page.wait_for_selector(".imgclean-good:visible")
    with open(sample / "cleaned.csv", newline="") as f:
        listed = dict(list(csv.reader(f))[1:])
    assert (
        len(listed) == 36 - 6 and not {n for n, mark in expected.items() if mark == "delete"} & listed.keys()
    )
    assert listed["space/moon.jpg"] == "space"
    assert {p: p.read_bytes() for p in sample.rglob("*.jpg")} == before

    # Run the cell again: the review goes on where it stopped.
    grid.command("notebook:run-cell")
    page.wait_for_function("document.querySelectorAll('.imgclean-cell[data-mark=delete]').length === 6")
    assert marks(grid) == expected


@pytest.fixture
def small(open_notebook, review_of, request):
    "A grid between other cells, its notebook, and the cell that shows it."
    _, cell = review_of(request.node.name, 3)
    nb = open_notebook(f"{request.node.name}.ipynb", ["'above'", cell, "'below'"])
    nb.command("notebook:run-all-cells")
    nb.page.wait_for_selector(".imgclean-cell img[src^='blob:']", timeout=60000)
    return nb, cell


def test_keys_never_reach_the_notebook(small):
    nb, page = small[0], small[0].page
    page.locator(".imgclean-cell").first.focus()
    for key in ["d", "d", "x", "0", "0", "i", "i", "a", "z", "b", "m"]:
        page.keyboard.press(key)
    page.get_by_role("button", name="Undo").click()
    for key in ["d", "d", "x"]:
        page.keyboard.press(key)
    time.sleep(0.5)
    assert nb.n_cells() == 3 and page.locator(".jp-Dialog").count() == 0


def test_a_restarted_kernel_is_said_and_nothing_decided_is_lost(small):
    nb, cell = small
    page = nb.page
    page.locator(".imgclean-cell").nth(1).click()
    nb.wait("len(cleaner.deleted) == 1")
    saved = marks(nb)
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'",
        timeout=30000,
    )
    page.locator(".imgclean-cell").nth(2).click()
    page.wait_for_selector(".imgclean-banner:visible", timeout=6000)
    nb.python(cell)
    assert marks(nb) == saved
