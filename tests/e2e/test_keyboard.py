"""A review by keyboard alone, and a front end that says what is so: views agree, forged messages do nothing, a dead kernel is said."""

import csv
import json
import time

import pytest

MARKS = "[...document.querySelectorAll('.imgclean')].map(view => [...view.querySelectorAll('.imgclean-cell')].map(c => c.dataset.mark))"
DECIDED = "print(cleaner.decisions)"
KEYS = {
    "d n": ("delete", "keep"),
    "ArrowRight d n": ("keep", "delete"),
    "ArrowRight k n": ("delete", "keep"),
    "a n": ("keep", "keep"),
    "b Enter": ("keep", "delete"),
}


def press(page, keys: str) -> None:
    for key in keys.split():
        page.keyboard.press(key)


def walk(page, key: str, wanted: str) -> None:
    "Press Tab or Shift+Tab until the focus is on what `wanted` selects."
    for _ in range(40):
        if page.evaluate("wanted => document.activeElement.matches(wanted)", wanted):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{wanted} is out of reach of {key}")


def test_twenty_groups_without_a_mouse(open_notebook, review_of):
    folder, cell = review_of("keyboard", 20)
    nb = open_notebook("keyboard.ipynb", [cell, "'below'"])
    page = nb.page
    nb.command("notebook:run-cell")
    page.wait_for_selector(".imgclean-cell img[src^='blob:']", timeout=60000)
    walk(page, "Tab", ".imgclean-cell")
    expected = {}
    for g in range(20):
        page.wait_for_function(
            "g => document.activeElement.closest('.imgclean-row')?.dataset.group === String(g)", arg=g
        )
        keys, marks = list(KEYS.items())[g % len(KEYS)]
        press(page, keys)
        expected |= dict(zip((f"cat/{g:03}a.jpg", f"cat/{g:03}b.jpg"), marks, strict=True))
    page.wait_for_function(
        "document.querySelector('.imgclean [aria-live]').textContent === 'every group is decided'"
    )
    status = "document.querySelector('.imgclean-status').innerText.includes('20 of 20 groups')"
    press(page, "u u")
    page.wait_for_function("!" + status)
    press(page, "Shift+U Shift+U x")  # forth again; x is JupyterLab's key to cut a cell
    page.wait_for_function(status)
    nb.wait("len(cleaner.decisions)", "40")
    assert json.loads(nb.python("import json; print(json.dumps(cleaner.decisions))")) == expected

    page.keyboard.press("Control+s")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    walk(page, "Shift+Tab", ".imgclean-bar button.imgclean-apply")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] fieldset")
    walk(page, "Tab", "dialog button.imgclean-apply")
    page.keyboard.press("Enter")
    page.wait_for_selector(".imgclean-good:visible")
    with open(folder / "cleaned.csv", newline="") as f:
        listed = [name for name, _ in list(csv.reader(f))[1:]]
    assert listed == sorted(name for name, mark in expected.items() if mark == "keep")

    page.wait_for_function("document.activeElement.matches('.imgclean-cell')")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.matches('.jp-Cell')")
    assert nb.n_cells() == 2 and page.locator(".jp-Dialog").count() == 0


def test_labels_that_differ_are_settled_by_key(open_notebook, review_of):
    _, cell = review_of("clash", 3)
    nb = open_notebook("clash.ipynb", [cell, "cleaner.review.relabel([1, 3], 'dog')"])
    page = nb.page
    nb.command("notebook:run-all-cells")
    page.wait_for_function("document.querySelectorAll('.imgclean-clash').length === 4", timeout=60000)
    assert page.get_by_text("labels differ and tie: 1 cat, 1 dog").count() == 2
    page.locator(".imgclean-cell").nth(1).focus()
    press(page, "m")
    page.wait_for_function("document.querySelectorAll('.imgclean-clash').length === 2")
    page.locator(".imgclean-cell").nth(2).focus()
    press(page, "Shift+D")
    page.wait_for_function("document.querySelectorAll('[data-mark=delete]').length === 2")
    nb.wait("cleaner.relabeled, cleaner.deleted", "{0: 'dog', 1: 'dog', 3: 'dog'} [2, 3]")
    press(page, "u u")
    page.wait_for_function("document.querySelectorAll('.imgclean-clash').length === 4")
    nb.wait("cleaner.relabeled, cleaner.deleted", "{1: 'dog', 3: 'dog'} []")


HEAR = """import logging
heard = []
handler = logging.Handler()
handler.emit = lambda record: heard.append(record.getMessage())
logging.getLogger("imgclean").addHandler(handler)
print(cleaner.model_id)"""
FORGE = """([id, message]) => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    return kernel._comms.get(id).send({method: 'custom', content: message}).done;
}"""


def test_views_agree_forged_messages_do_nothing_and_a_dead_kernel_is_said(open_notebook, review_of):
    _, cell = review_of("views", 2)
    again = "other = ImageCleaner(ds, [(0, 1), (2, 3)])\nother"  # another widget about the same folder
    nb = open_notebook("views.ipynb", [cell, "cleaner", again])
    page = nb.page
    nb.command("notebook:run-all-cells")
    page.wait_for_function("document.querySelectorAll('.imgclean-cell').length === 12", timeout=60000)
    page.locator(".imgclean-cell").first.focus()
    press(page, "d ArrowDown b")
    same = ["delete", "", "keep", "delete"]
    page.wait_for_function(f"JSON.stringify({MARKS}.slice(0, 2)) === JSON.stringify({[same, same]})")
    page.locator(".imgclean").nth(1).locator(".imgclean-cell").nth(3).focus()
    press(page, "u")
    same = ["delete", "", "", ""]
    page.wait_for_function(f"JSON.stringify({MARKS}.slice(0, 2)) === JSON.stringify({[same, same]})")
    third = page.locator(".imgclean").nth(2)
    third.locator(".imgclean-cell").nth(1).focus()
    press(page, "k")  # it learns what the others did before it adds its own
    page.wait_for_function(f"{MARKS}[2].join() === 'delete,keep,,'")
    nb.wait("len(other.decisions)", "2")
    before = nb.python("print(cleaner.review.undo() is not None, cleaner.decisions)")
    assert before == "True {'cat/000a.jpg': 'delete'}"

    model = nb.python(HEAR)
    for forged in (
        {"type": "rm"},
        {"type": "do", "do": "mark", "ids": [0]},
        {"type": "pictures", "ids": [99]},
    ):
        page.evaluate(FORGE, [model, forged])
    assert nb.python("print(len(heard), all('makes no sense' in h for h in heard))") == "3 True"
    page.evaluate(FORGE, [model, {"type": "do", "do": "mark", "seq": 1, "ids": [99], "value": "delete"}])
    assert nb.python("print(cleaner.decisions)") == "{'cat/000a.jpg': 'delete'}"

    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.shutdown()")
    page.locator(".imgclean-cell").nth(3).click()
    page.wait_for_function("document.querySelector('.imgclean-banner').innerText.includes('NOT recorded')")
    assert page.evaluate(MARKS)[0] == same


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
    saved = nb.python(DECIDED)
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'",
        timeout=30000,
    )
    page.locator(".imgclean-cell").nth(2).click()
    page.wait_for_selector(".imgclean-banner:visible", timeout=6000)
    nb.python(cell)
    assert nb.python(DECIDED) == saved
