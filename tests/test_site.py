"""The site that `.mkdocs.yml` makes of docs/: every public name, no link that leads nowhere, nothing from elsewhere."""

import re
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

import imgclean

REPO = Path(__file__).parents[1]
PAGES = [f"{page.stem}.html" for page in sorted(REPO.glob("docs/*.md"))]


def test_the_reference_has_every_public_name_once():
    text = (REPO / "docs/reference.md").read_text(encoding="utf-8")
    shown = re.findall(r"^::: imgclean\.(\S+)\.(\w+)$", text, re.MULTILINE)
    assert sorted(shown) == sorted((home, name) for name, home in imgclean._HOMES.items())


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed; pip install -e .[docs]")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", ".mkdocs.yml", "-d", folder]
    # without -q, which would silence the warnings that --strict counts
    run = subprocess.run(words, cwd=REPO, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return folder


class Links(HTMLParser):
    "Where a page leads to, its anchors, and what a browser fetches with it"

    def __init__(self, page: Path):
        super().__init__()
        self.links, self.anchors, self.fetched = set(), set(), set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        links = {attrs[key] for key in ("href", "src") if attrs.get(key)}
        self.links |= links
        self.fetched |= links if tag != "a" else set()


def test_every_link_and_anchor_leads_somewhere(site):
    pages = {page: Links(site / page) for page in PAGES}
    for page, found in pages.items():
        for link in found.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target, anchor = unquote(parts.path).removeprefix("./") or page, unquote(parts.fragment)
            assert (site / target).exists(), f"{page}: {link}"
            if anchor and target in pages:
                assert anchor in pages[target].anchors | {"__search"}, f"{page}: {link}"


def test_every_public_name_is_shown_with_its_explanation(site):
    html = (site / "reference.html").read_text(encoding="utf-8")
    for name, home in imgclean._HOMES.items():
        _, _, after = html.partition(f'id="imgclean.{home}.{name}"')
        assert '<div class="doc doc-contents' in after.partition('class="doc doc-object ')[0], name


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_pages_and_styles_name_nothing_from_elsewhere(site):
    for page in PAGES:
        assert not [link for link in Links(site / page).fetched if urlsplit(link).netloc], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_a_browser_loads_nothing_from_elsewhere(site, chrome):
    asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        home = f"http://127.0.0.1:{server.server_port}/"
        page = chrome.new_page()
        page.on("request", lambda request: asked.append(request.url))
        for name in ("index.html", "how_it_works.html", "reference.html"):
            page.goto(home + name, wait_until="networkidle")
        page.close()
        server.shutdown()
    assert any(url.startswith(home + "search/") for url in asked)  # scripts were run
    assert not [url for url in asked if not url.startswith((home, "data:", "blob:"))]
