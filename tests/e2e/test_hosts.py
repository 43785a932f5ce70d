"""The grid in Notebook 7 and in Voila: it paints, a key marks, and the decision is on the disk."""

import time

import nbformat
import pytest


def decide(page, folder) -> None:
    "Mark by keyboard, and find the decision in the ledger."
    page.wait_for_selector(".imgclean-cell img[src^='blob:']", timeout=60000)
    page.wait_for_function(
        "[...document.querySelectorAll('.imgclean-cell img')].every(i => i.naturalWidth > 0)"
    )
    page.locator(".imgclean-cell").first.focus()
    for key in ("ArrowRight", "d", "x"):
        page.keyboard.press(key)
    page.wait_for_selector(".imgclean-cell[data-mark=delete]")
    ledger = folder / ".imgclean" / "review.jsonl"
    for _ in range(100):
        if ledger.exists() and '"cat/000b.jpg":"delete"' in ledger.read_text():
            break
        time.sleep(0.1)
    assert '"cat/000b.jpg":"delete"' in ledger.read_text()
    assert not page.locator(".imgclean-banner").is_visible()


def test_notebook_7(open_notebook, review_of):
    notebook = pytest.importorskip("notebook", reason="notebook is not installed; pip install -e .[dev]")
    assert int(notebook.__version__.split(".")[0]) >= 7
    folder, cell = review_of("classic", 3)
    nb = open_notebook("classic.ipynb", [cell], app="notebooks")
    nb.command("notebook:run-cell")
    decide(nb.page, folder)
    assert nb.n_cells() == 1  # x cuts a cell


def test_voila(lab, chrome, review_of):
    pytest.importorskip("voila", reason="voila is not installed; pip install -e .[dev]")
    folder, cell = review_of("voila", 3)
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    nb.metadata.kernelspec = dict(name="python3", display_name="Python 3", language="python")
    nbformat.write(nb, lab[1] / "voila.ipynb")
    page, errors = chrome.new_page(viewport=dict(width=1100, height=800)), []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto(f"{lab[0]}/voila/render/voila.ipynb", timeout=60000)
    decide(page, folder)
    page.close()
    assert errors == []
