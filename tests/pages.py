"""A dataset for the page of a report, and what is written into one."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from imgclean.dataset.items import Items
from imgclean.find.groups import Group

LABELS = ("cat", "dog", "cat", "a;b", "b;a", None, "dog", "\U0001f431", "￮", "cat", "dog", "a", "dog", "")


def labelled(folder: Path) -> Items:
    items = Items.from_folder(folder)
    return replace(items, labels=LABELS, splits=("train", "valid") * 7, label_delim=";")


GROUPS = [
    Group((0, 1, 2), 0.99, (1, 1, 0.99)),
    Group((3, 4), 0.98),
    Group((5, 6, 7, 8), 0.9, protected=(6,)),
    Group((2, 9), 0.95),
    Group((10, 11), 0.97, protected=(10, 11)),
    Group((8, 12, 9), 0.5),
    Group((13,)),
]


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
