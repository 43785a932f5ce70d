"""What tests ask a grid in the browser."""


def did(page):
    return [m for m in page.evaluate("window.sent") if m["type"] == "do"]


def marks(page):
    return page.evaluate("[...document.querySelectorAll('.imgclean-cell')].map(c => c.dataset.mark)")


def focused(page):
    return page.evaluate("Number(document.activeElement.dataset.id)")


def start(page):
    page.locator(".imgclean-cell").first.focus()


def ask_to_apply(page):
    page.get_by_role("button", name="Apply").click()
    page.wait_for_selector("dialog[open]")
