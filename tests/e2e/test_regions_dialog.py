"""Which regions of two images agree, in the comparison of a real grid with a real model behind it."""

CELL = """from imgclean.all import DatasetFormatter, ImageCleaner
ds, idxs = DatasetFormatter.from_similars({name!r}, min_similarity=.99, progress=False)
cleaner = ImageCleaner(ds, idxs)
cleaner"""
MAPS = (
    "[...document.querySelectorAll('.imgclean-pane img.imgclean-map')].filter(i => i.naturalWidth > 0).length"
)


def test_regions_that_agree_are_shown_on_both_pictures(axe, open_notebook, review_of):
    folder, _ = review_of("regions", 2)
    nb = open_notebook("regions.ipynb", [CELL.format(name=folder.name)])
    page = nb.page
    nb.command("notebook:run-cell")
    page.wait_for_selector(".imgclean-cell img[src^='blob:']", timeout=180000)
    page.locator(".imgclean-cell").first.focus()
    page.keyboard.press("d")
    for key in (" ", "r"):
        page.keyboard.press(key)
    page.wait_for_function(f"{MAPS} === 2", timeout=60000)
    boxes = page.evaluate(
        "[...document.querySelectorAll('.imgclean-pane img')].map(i => JSON.stringify(i.getBoundingClientRect()))"
    )
    assert boxes[0] == boxes[1] and boxes[2] == boxes[3]
    assert "(cosines 1.00 to 1.00)" in page.locator(".imgclean-caption").inner_text()  # equal files
    for name, is_light in (("JupyterLab Light", "true"), ("JupyterLab Dark", "false")):
        nb.theme(name, is_light)
        seen = axe.run(page, "dialog[open]")
        assert seen.violations_count == 0, f"{name}: {seen.generate_report()}"
    page.keyboard.press("Escape")
    # The comparison has decided nothing.
    assert nb.python("print(cleaner.deleted, cleaner.kept)") == "[0] []"
    page.keyboard.press("u")
    page.wait_for_function("!document.querySelector('.imgclean-cell[data-mark=delete]')")
