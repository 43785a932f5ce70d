"""What axe-core finds wrong with the grid, the comparison and the dialogs, in JupyterLab's light and dark theme."""


def test_axe_finds_no_violation(axe, open_notebook, review_of):
    _, cell = review_of("axe", 6)
    single = "ImageCleaner(ds, [0, 3, 5], duplicates=False)"
    clash = "cleaner.review.relabel([9], 'dog')"
    nb = open_notebook("axe.ipynb", [cell, single, clash])
    page, checked = nb.page, 0

    def check(where: str, selector: str = ".imgclean") -> None:
        nonlocal checked
        found = axe.run(page, selector)
        assert found.violations_count == 0, f"{where}: {found.generate_report()}"
        checked += len(found.response["passes"])

    nb.command("notebook:run-all-cells")
    page.wait_for_selector("select.imgclean-label", timeout=60000)
    page.wait_for_selector(".imgclean-cell img[src^='blob:']")
    page.locator(".imgclean-cell").first.focus()
    for key in ("d", "ArrowRight", "d", "ArrowDown", "b", "ArrowDown", "o", "ArrowDown", "Shift+ArrowRight"):
        page.keyboard.press(key)
    page.wait_for_function("document.querySelector('.imgclean').innerText.includes('OTHER PICTURE')")
    assert page.get_by_text("labels differ and tie").count() == 1
    for name, is_light in (("JupyterLab Light", "true"), ("JupyterLab Dark", "false")):
        nb.theme(name, is_light)
        check(f"grid, {name}")
        page.locator(".imgclean-cell").first.focus()
        for key, selector in (("?", "keys"), (" ", "comparison")):
            page.keyboard.press(key)
            page.wait_for_selector("dialog[open]")
            check(f"{selector}, {name}", "dialog[open]")
            page.keyboard.press("Escape")
        page.get_by_role("button", name="Apply").first.click()
        page.wait_for_selector("dialog[open] fieldset")
        assert page.locator("dialog[open] .imgclean-lose").count() == 1
        check(f"apply, {name}", "dialog[open]")
        page.keyboard.press("Escape")
    assert checked > 100  # it did look at something
