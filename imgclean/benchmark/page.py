"""How large the HTML report of so many groups is, and how soon a browser shows its first page."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from ..dataset.images import UnreadableImage, open_image
from ..dataset.items import Items
from ..dataset.samples import sample_dataset
from ..find.groups import Group
from ..review.report import write_report
from .common import print_json

WHOLE, PART = (800, 600), (640, 480)  # pixels of the photographs, and of what is cut from them
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage")  # fmt: skip
PAINTED = """() => { const all = [...document.querySelectorAll('.imgclean-cell img')];
  return all.length > 0 && all.every(i => i.complete && i.naturalWidth) }"""


def page(
    groups: Annotated[int, typer.Option(help="Groups of two, two and three images.")] = 1000,
    repeats: Annotated[int, typer.Option(help="How often the report is opened.")] = 3,
) -> None:
    "Bytes of a report of parts of photographs, and seconds until Chromium has painted its first page, median."
    with tempfile.TemporaryDirectory(prefix="imgclean-") as folder:
        items, found = parts_of_photographs(Path(folder), groups)
        start = perf_counter()
        report = write_report(items, found, Path(folder) / "report.html")
        written = perf_counter() - start
        with chromium() as browser:
            seconds = [opened(browser, report) for _ in range(repeats)]
        print_json(
            {
                "groups": len(found),
                "images": len(items),
                "bytes": report.stat().st_size,
                "seconds_to_write": written,
                "seconds_to_open": median(seconds),
                "seconds_each": seconds,
            }
        )


def parts_of_photographs(folder: Path, n_groups: int) -> tuple[Items, list[Group]]:
    "Parts of the sample dataset's photographs, no two of the same bytes, and groups of two, two and three of them."
    rng, photos = np.random.default_rng(0), []
    for path in sorted(sample_dataset(folder / "sample").path.rglob("*.jpg")):
        with suppress(UnreadableImage):  # one is broken on purpose
            photos.append(open_image(path).resize(WHOLE, Image.Resampling.LANCZOS))
    ends = list(accumulate(2 + (k % 3 == 2) for k in range(n_groups)))
    (folder / "parts").mkdir()
    for k in range(ends[-1]):
        x, y = (int(rng.integers(0, w - p)) for w, p in zip(WHOLE, PART, strict=True))
        part = photos[k % len(photos)].crop((x, y, x + PART[0], y + PART[1]))
        part.save(folder / "parts" / f"{k:05}.jpg", quality=int(rng.integers(80, 95)))
    return Items.from_folder(folder / "parts"), [
        Group(range(a, b), 0.9) for a, b in zip([0, *ends], ends, strict=False)
    ]


@contextmanager
def chromium() -> Iterator[object]:
    "Playwright's browser, or the one of the system; raises `typer.BadParameter` where Playwright is not installed."
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as err:
        raise typer.BadParameter("opening a report needs playwright; pip install imgclean[dev]") from err
    path = os.environ.get("CHROMIUM_PATH") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


def opened(browser: object, report: Path) -> float:  # seconds
    "From the call that opens `report` in a new window to the frame that shows all pictures of its first page."
    context = browser.new_context(viewport={"width": 1300, "height": 1000})
    tab = context.new_page()
    start = perf_counter()
    tab.goto(report.as_uri(), wait_until="commit")
    tab.wait_for_function(PAINTED, polling="raf")
    seconds = perf_counter() - start
    context.close()
    return seconds
