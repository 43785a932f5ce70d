"""Every tutorial runs from its first cell to its last, and is committed without outputs."""

import asyncio
import re
import shutil
from pathlib import Path

import nbformat
import pytest
import systems
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "nbs").glob("*.ipynb"))
# Nothing that one notebook has named is there for the next. Forking takes longer than so few images.
FRESH = """%reset -f
%cd -q {}
import fastcore.foundation
fastcore.foundation.defaults.cpus = 0
del fastcore"""


@pytest.fixture(scope="module")
def kernel():
    "One for all notebooks, of which each would import torch anew."
    manager = AsyncKernelManager(kernel_name="python3")
    asyncio.run(manager.start_kernel())
    yield manager
    asyncio.run(manager.shutdown_kernel(now=True))


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=systems.ray if p.stem.startswith("08_") else (), id=p.stem) for p in NOTEBOOKS],
)
def test_notebook_runs(path, tmp_path, kernel):
    nb = nbformat.read(shutil.copy(path, tmp_path), as_version=4)
    nb.cells.insert(0, nbformat.v4.new_code_cell(FRESH.format(tmp_path)))
    NotebookClient(nb, timeout=300, km=kernel).execute()
    texts = [
        o.text for c in nb.cells if c.cell_type == "code" for o in c.outputs if o.output_type == "stream"
    ]
    assert not [t for t in texts if "Warning" in t]
    if path.stem == "02_relabel":
        found = re.search(
            r"combined: (\d+) of 15 planted wrong labels are among the first 15", "".join(texts)
        )
        assert int(found[1]) >= 12
    if path.stem == "01_find_duplicates":
        assert any("25 images kept, 11 left out" in t for t in texts)
        pictures = [
            o
            for c in nb.cells
            if c.cell_type == "code"
            for o in c.outputs
            if "image/png" in o.get("data", {})
        ]
        assert len(pictures) >= 10
    if path.stem == "04_siamese":
        told = re.search(r"of 25 held-out pairs are told right, 95 % interval (\d+)% to", "".join(texts))
        assert int(told[1]) > 55  # by chance 50
    if path.stem == "06_own_learner":
        found = re.findall(r"(\d) of 5 planted wrong labels come first", "".join(texts))
        assert len(found) == 2 and min(map(int, found)) >= 4
    if path.stem == "08_past_one_machine":
        told = "".join(texts)
        assert "the same as on one machine: True" in told and "precision 100.0%" in told
        assert re.search(r"\d files stayed as they were, [1-9]\d* are new", told)
    if path.stem == "03_leaks":
        assert any("7 of 11 images of valid (63.6 %) have a copy in train" in t for t in texts)
        assert any("on the 4 images that the model had not seen" in t for t in texts)
        assert sum("has a copy in train" in t and t.startswith("none of") for t in texts) == 2
        assert any("the model had seen none of the 13 images" in t for t in texts)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_stripped(path):
    nb = nbformat.read(path, as_version=4)
    nbformat.validate(nb)
    assert all(not c.outputs and c.execution_count is None for c in nb.cells if c.cell_type == "code")
