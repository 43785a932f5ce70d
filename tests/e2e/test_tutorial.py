"""The tutorial in JupyterLab, as a person uses it: compare, look, mark by mouse and keyboard, apply, read the csv."""

import csv
import json
import re
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
GRID = "ImageCleaner(ds, idxs"
MAPS = (
    "[...document.querySelectorAll('.imgclean-pane img.imgclean-map')].filter(i => i.naturalWidth > 0).length"
)


def marks(nb):
    return json.loads(nb.python("import json; print(json.dumps(cleaner.decisions))"))


@pytest.fixture(scope="module")
def grid(open_for_module):
    "The tutorial, run up to the grid."
    nb = open_for_module("tutorial.ipynb", source=REPO / "nbs" / "01_find_duplicates.ipynb")
    index = nb.page.evaluate(
        "text => window.jupyterapp.shell.currentWidget.content.widgets.findIndex(w => w.model.sharedModel.source.includes(text))",
        GRID,
    )
    nb.page.evaluate("k => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = k }", index)
    nb.command("notebook:run-all-above")
    nb.command("notebook:run-cell")
    nb.page.wait_for_selector(".imgclean-cell img[src^='blob:']", timeout=180000)
    return nb


def test_regions_that_agree_are_shown_on_both_pictures(grid, axe):
    "In the comparison of a grid with a real model behind it."
    page = grid.page
    page.locator(".imgclean-cell").first.focus()
    page.keyboard.press("d")
    for key in (" ", "r"):
        page.keyboard.press(key)
    page.wait_for_function(f"{MAPS} === 2", timeout=60000)
    boxes = page.evaluate(
        "[...document.querySelectorAll('.imgclean-pane img')].map(i => JSON.stringify(i.getBoundingClientRect()))"
    )
    assert boxes[0] == boxes[1] and boxes[2] == boxes[3]
    assert re.search(
        r"\(cosines -?[01]\.\d\d to [01]\.\d\d\)", page.locator(".imgclean-caption").inner_text()
    )
    for name, is_light in (("JupyterLab Light", "true"), ("JupyterLab Dark", "false")):
        grid.theme(name, is_light)
        seen = axe.run(page, "dialog[open]")
        assert seen.violations_count == 0, f"{name}: {seen.generate_report()}"
    page.keyboard.press("Escape")
    # The comparison has decided nothing.
    assert grid.python("print(len(cleaner.deleted), cleaner.kept)") == "1 []"
    page.keyboard.press("u")
    page.wait_for_function("!document.querySelector('.imgclean-cell[data-mark=delete]')")
    assert marks(grid) == {}


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
    assert page.get_by_role("button", name="Apply").inner_text() == "Apply…"  # all was carried out
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
