"""A report in Chromium, opened from the disk as a person does: hostile names, decisions by keys, the export.

The page's policy forbids `eval`, by which Playwright's `wait_for_function` asks a second time: here only locators wait.
"""

import json
import os
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from pictures import picture, write_pictures
from typer.testing import CliRunner

from imgclean.cli import app
from imgclean.dataset.cleaned import content_digest
from imgclean.dataset.items import Items
from imgclean.find.groups import Group
from imgclean.review.exchange import read_decisions, reviewed
from imgclean.review.report import write_report

expect = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed; pip install -e .[dev]"
).expect

NAMES = (
    ["a.jpg", "b.jpg"]
    if sys.platform == "win32"
    else ['"><img src=x onerror=alert(1)>.jpg', "'\n\r\x1b[31m&amp;\u2028.jpg"]
)
LABELS = ("</script><script>alert(1)</script>", "<b>dog</b>", "cat", "cat", "dog", None, "cat", "cat")


class Opened:
    "A report in a browser of its own, and what it did that it must not"

    def __init__(self, chrome, path: Path, init: str = ""):
        self.wrong: list[str] = []
        self.context = chrome.new_context(viewport={"width": 1200, "height": 900})
        self.context.add_init_script(init)
        self.page, self.url = self.context.new_page(), path.as_uri()
        self.page.on("pageerror", lambda e: self.wrong.append(str(e)))
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.wrong.append(m.text))
        self.page.on("request", lambda r: r.url.startswith(("file:", "blob:")) or self.wrong.append(r.url))
        self.open()

    def open(self) -> None:
        self.page.goto(self.url)
        self.page.wait_for_selector(".imgclean-cell img[src^='blob:']")

    def keys(self, *keys: str) -> None:
        self.page.locator(".imgclean-cell").first.focus()
        for key in keys:
            self.page.keyboard.press(key)

    def marks(self) -> list[str]:
        return self.page.evaluate("[...document.querySelectorAll('.imgclean-cell')].map(c => c.dataset.mark)")

    def export(self) -> str:
        self.page.get_by_role("button", name="Export decisions…").click()
        self.page.locator("dialog[open]").wait_for()
        for tick in self.page.locator("dialog[open] .imgclean-lose input").all():
            tick.check()
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name="Export decisions.json").click()
        assert download.value.suggested_filename == "decisions.json"
        return Path(download.value.path()).read_text(encoding="ascii")


@pytest.fixture
def report(tmp_path):
    folder = tmp_path / "in"
    write_pictures(folder, [*NAMES, "2.jpg", "3.jpg", "4.jpg", "5.jpg"], [1, 1, 2, 2, 3, 4])
    last = (
        os.fsdecode(b"6\xe9.jpg") if sys.platform == "linux" else "6é.jpg"
    )  # others have Unicode names alone
    picture(5, (1200, 800)).save(folder / last)
    picture(5, (1200, 800)).save(folder / "7.jpg", quality=30)
    items = Items.from_paths(
        [folder / n for n in [*NAMES, "2.jpg", "3.jpg", "4.jpg", "5.jpg", last, "7.jpg"]]
    )
    items = replace(items, labels=LABELS)
    groups = [
        Group((0, 1), 0.99, reason="<i>largest</i>"),
        Group((2, 3), 0.98, protected=(3,)),
        Group((4, 5), 0.97),
        Group((6, 7), 0.96),
    ]
    return items, groups, write_report(items, groups, tmp_path / "report.html")


def test_decided_by_keys_exported_and_checked(report, chrome, axe, tmp_path):
    items, groups, path = report
    opened = Opened(chrome, path)
    page = opened.page
    try:
        shown = page.evaluate("[...document.querySelectorAll('.imgclean-name')].map(n => n.textContent)")
        assert (
            shown[:2] == NAMES and page.locator(".imgclean-reason").first.text_content() == "<i>largest</i>"
        )
        assert page.locator(".imgclean-label").first.text_content() == LABELS[0]
        assert page.locator(".imgclean-label").nth(1).text_content() == LABELS[1]

        opened.keys(
            "b", "ArrowDown", "Shift+D", "ArrowDown", "d", "u", "ArrowRight", "o", "ArrowDown", "Shift+D"
        )
        wanted = ["keep", "delete", "delete", "", "keep", "keep", "delete", "delete"]
        expect(page.locator("[data-mark=delete]")).to_have_count(4)
        assert opened.marks() == wanted and page.locator(".imgclean-lost").count() == 1
        opened.open()  # a reload; undo goes on where it was
        # What was stored a moment ago may reach the new page's process a moment later, by an event.
        expect(page.locator("[data-mark=delete]")).to_have_count(4)
        assert opened.marks() == wanted
        assert not page.locator(".imgclean-banner:visible").count()
        page.locator(".imgclean-cell").first.focus()
        page.keyboard.press("u")
        expect(page.locator("[data-mark=delete]")).to_have_count(2)
        page.keyboard.press("Shift+U")
        expect(page.locator("[data-mark=delete]")).to_have_count(4)
        opened.keys("ArrowDown", "ArrowRight", "d")  # protected
        page.get_by_text("is protected; to delete it").wait_for()

        page.get_by_label("Show").select_option("undecided")
        page.get_by_text("1 of 4 groups shown").wait_for()
        page.get_by_label("Show").select_option("all")
        expect(page.locator(".imgclean-row")).to_have_count(4)

        checked = 0
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for where in ("page", "comparison", "keys", "export"):
                if where == "export":
                    page.get_by_role("button", name="Export decisions…").click()
                elif where != "page":
                    opened.keys(*{"comparison": (" ", "x"), "keys": ("?",)}[where])
                found = axe.run(page)
                assert found.violations_count == 0, f"{where}, {scheme}: {found.generate_report()}"
                checked += len(found.response["passes"])
                page.keyboard.press("Escape")
                expect(page.locator("dialog[open]")).to_have_count(0)
        assert checked > 100  # it did look at something

        page.get_by_role("button", name="Export decisions…").click()
        said = page.locator("dialog[open]").inner_text()
        assert (
            "4 are to be left out, 3 were chosen to be kept" in said
            and "imgclean apply decisions.json --dry-run" in said
        )
        assert "1 group would lose every copy (#4 6" in said
        assert page.get_by_role("button", name="Export decisions.json").is_disabled()
        page.keyboard.press("Escape")
        text = opened.export()
        page.locator(".imgclean-good", has_text="wrote decisions.json").wait_for()
    finally:
        opened.context.close()
    assert opened.wrong == []
    (tmp_path / "decisions.json").write_text(text)
    with reviewed(read_decisions(tmp_path / "decisions.json"), items, dry_run=True) as (review, taken):
        assert taken.taken == 7 and not (taken.gone or taken.last or taken.differ)
        assert [review.mark_of(k) or "" for k in range(len(items))] == wanted and review.is_apart(4, 5)
    found = json.loads(text)
    names = [items.relpath(k) for k in range(len(items))]
    assert found.pop("checksum") == f"{zlib.crc32(json.dumps(found, separators=(',', ':')).encode()):08x}"
    assert found["mark"] == {name: mark for name, mark in zip(names, wanted, strict=True) if mark}
    assert found["apart"] == [[[names[4]], [names[5]]]] and found["root"] == str(items.root)
    assert found["groups"] == [{"images": [names[k] for k in g], "protected": [names[k] for k in g.protected]} for g in groups]  # fmt: skip
    assert found["files"] == {items.relpath(k): [items.n_bytes(k), content_digest(items.paths[k]).hex()] for k in range(len(items))}  # fmt: skip
    assert found["rows"] == [[name, label, None] for name, label in zip(names, LABELS, strict=True)]
    _applied_and_restored(tmp_path / "decisions.json", items, wanted)


def _applied_and_restored(decisions, items, wanted):
    "What the page exported, from the shell: refused, tried, done, undone."
    run, content = CliRunner(), [p.read_bytes() for p in items.paths]
    gone = [k for k, mark in enumerate(wanted) if mark == "delete"]
    command = ["apply", str(decisions), "--to", "quarantine"]
    refused = run.invoke(app, command)
    assert refused.exit_code == 2 and "would lose every copy" in refused.stderr
    command.append("--lose-groups")
    assert run.invoke(app, [*command, "--dry-run"]).exit_code == 0
    assert [p.read_bytes() for p in items.paths] == content
    done = run.invoke(app, command)
    assert done.exit_code == 0, done.output
    assert [k for k, p in enumerate(items.paths) if not p.exists()] == gone
    back = run.invoke(app, ["restore", str(items.root)])
    assert back.exit_code == 0 and [p.read_bytes() for p in items.paths] == content
    assert "\x1b" not in refused.output + done.output + back.output


def test_where_nothing_is_stored_the_page_says_so_and_asks_before_it_is_left(report, chrome):
    refuse = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') }"
    opened = Opened(chrome, report[2], refuse)
    page, asked = opened.page, []
    page.on("dialog", lambda d: (asked.append(d.type), d.accept()))
    try:
        assert page.get_by_text("keeps no decisions").is_visible()
        opened.keys("b")
        expect(page.locator("[data-mark=delete]")).to_have_count(1)
        page.keyboard.press("d")
        page.keyboard.press("u")
        expect(page.locator("[data-mark=delete]")).to_have_count(1)
        page.reload()
        assert asked == ["beforeunload"] and "delete" not in opened.marks()
        opened.keys("b")
        opened.export()
        page.reload()
        assert asked == ["beforeunload"]  # what was exported is not lost
    finally:
        opened.context.close()
    assert opened.wrong == []


def test_two_tabs_of_one_report_agree(report, chrome):
    opened = Opened(chrome, report[2])
    try:
        other = opened.context.new_page()
        other.goto(opened.url)
        other.wait_for_selector(".imgclean-cell")
        opened.page.bring_to_front()
        opened.keys("b")
        expect(other.locator("[data-mark=delete]")).to_have_count(1)
        other.locator(".imgclean-cell").first.focus()
        other.keyboard.press("u")
        expect(opened.page.locator("[data-mark=delete]")).to_have_count(0)
    finally:
        opened.context.close()
    assert opened.wrong == []


def test_a_page_shows_before_it_is_read_to_its_end(chrome, tmp_path):
    write_pictures(tmp_path / "in", [f"{k:02}.jpg" for k in range(24)], list(range(24)))
    groups = [Group((k, k + 1)) for k in range(0, 24, 2)]
    text = write_report(Items.from_folder(tmp_path / "in"), groups, tmp_path / "r.html").read_text("utf-8")
    at = text.index('id="imgclean-picture-21"') + 1000  # within a picture of the second page
    (tmp_path / "cut.html").write_text(text[:at], "utf-8")
    opened = Opened(chrome, tmp_path / "cut.html")
    page = opened.page
    try:
        opened.keys("PageDown")
        page.get_by_text("cut off before").nth(2).wait_for()
        assert (
            page.locator(".imgclean-missing").count() == 3 and page.locator(".imgclean-cell img").count() == 1
        )

        page.goto("about:blank")
        page.evaluate("text => { document.open(); document.write(text) }", text[:at])
        page.wait_for_selector(".imgclean-cell img[src^='blob:']")
        opened.keys("PageDown")
        expect(page.locator(".imgclean-row")).to_have_count(2)
        page.wait_for_timeout(100)
        assert not page.locator(".imgclean-missing, .imgclean-cell img[src]").count()
        page.evaluate("text => { document.write(text); document.close() }", text[at:])
        page.locator(".imgclean-cell img[src^='blob:']").nth(3).wait_for()
    finally:
        opened.context.close()
    assert opened.wrong == []
