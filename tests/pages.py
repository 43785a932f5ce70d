"""What is written into the page of a report."""

import json
from html.parser import HTMLParser
from pathlib import Path


class _Blocks(HTMLParser):
    "Every element of a page, and the text of its scripts by id"

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.texts, self.attrs, self._id = [], {}, {}, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "script":
            self._id = dict(attrs).get("id", "module").removeprefix("imgclean-")
            self.texts[self._id], self.attrs[self._id] = "", dict(attrs)

    def handle_data(self, data):
        if self._id:
            self.texts[self._id] += data

    def handle_endtag(self, tag):
        self._id = None


def blocks(page: Path) -> _Blocks:
    return _Blocks(page.read_text(encoding="utf-8"))


def data_of(page: Path) -> dict:
    return json.loads(blocks(page).texts["data"])
