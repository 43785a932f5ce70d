"""`write_report`: the grid as one HTML file that needs no server, no network and no Python to decide in."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..dataset.images import UnreadableImage
from ..dataset.items import Items
from ..dataset.quarantine import leads_outside
from ..dataset.stored import written_whole
from .cleaner import HERE, SCRIPTS
from .exchange import listing, unreadable
from .regroup import as_groups
from .session import Review
from .shown import ROW, jpeg, row

SIDE, QUALITY = 320, 80  # of the pictures in the file: longest side in pixels, JPEG
PAGE = 10  # groups
MODULE = (*SCRIPTS, "session.js", "report.js")  # one module
STYLES = ("cleaner.css", "report.css")


def write_report(
    ds: Items,
    groups: Iterable[Sequence[int]],  # of `ds`, as `DatasetFormatter` or a finder returns them
    file: str | os.PathLike,  # gets the page; an existing file is replaced
    *,
    dataset: str
    | os.PathLike
    | None = None,  # folder or table that `ds` is read from as a whole; None: the page lists all its images
) -> Path:
    """Path of an HTML file with the grid of `groups`: decide in a browser, export `decisions.json`, then `imgclean apply`.

    It starts from the decisions in the folder's ledger, if there are any, and changes none. Raises `FileNotFoundError` where an image of
    the groups is gone, `ValueError` where one lies outside of the dataset's root, and what `Review` raises.
    """
    review = Review(ds, as_groups(groups))
    items = _items(review)
    data = _data(review, items, dataset)
    data["looked_at"] = getattr(groups, "looked_at", None) or len(ds)  # of a bucket few are items
    rows = None if dataset is not None else listing(ds)
    with written_whole(file) as f:
        for part in _page(review, items, data, rows):
            f.write(part.encode())
    return Path(file)


def _page(review: Review, items: list[dict], data: dict, rows: list | None) -> Iterator[str]:
    "The text of the file, in pieces: names and labels are JSON in blocks that no browser runs."
    style, script = _joined(STYLES), _joined(MODULE) + "\nopenReport();\n"
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    yield (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>imgclean</title>\n<style>{style}</style>\n'
        "</head>\n<body>\n<main><noscript>This page needs JavaScript; it loads nothing from anywhere.</noscript></main>\n"
    )
    yield _block("data", "application/json", as_json(data))
    yield _block("rows", "application/json", as_json(rows))
    early, late = _in_order(review, items)
    yield from _pictures(review, early)
    # Async: the first page is on the screen while the browser still reads the pictures of the others.
    yield f'<script type="module" async>{script}</script>\n'
    yield from _pictures(review, late)
    yield "</body>\n</html>\n"


def _data(review: Review, items: list[dict], dataset: str | os.PathLike | None) -> dict:
    "All that the page knows, but for pictures and the list of the whole dataset."
    ds, groups, shown = review.items, review.groups, {item["id"] for item in items}
    data = {
        "root": os.path.abspath(ds.root),
        "dataset": None if dataset is None else os.path.abspath(dataset),
        "unreadable": unreadable(ds),
        "images": len(ds),
        "side": SIDE,
        "label_delim": ds.label_delim,
        "grades": review.grades,
        "shared": len(shown) < sum(map(len, groups)),
        "items": items,
        "groups": [_group(review, g) for g in range(len(groups))],
        "marks": [
            (k, review.mark_of(k))
            for k in sorted(shown)
            if review.mark_of(k) and not (k in review.protected and review.mark_of(k) == "delete")
        ],
        "labels": [(k, label) for k, label in review.relabeled.items() if k in shown],
        "apart": [],  # what the ledger tells apart is in no group together
        "n_apart": review.n_apart,
        "traits": {
            "batch_size": PAGE,
            "single": not any(len(group) > 1 for group in groups),
            "vocab": ds.vocab,
            "grades": review.grades,
            "predicted": sorted({group.predicted for group in groups} - {None}),
            "exports": True,
        },
    }
    # Where the browser keeps the decisions: those of another report are others.
    return {"digest": hashlib.blake2b(as_json(data).encode(), digest_size=16).hexdigest()} | data


def _items(review: Review) -> list[dict]:
    "The images of the groups; those with the same bytes share a picture."
    names, labels, found, pictures = review.known.names, review.items.labels, [], {}
    for k in sorted({k for group in review.groups for k in group}):
        if leads_outside(names[k]):
            raise ValueError(
                f"{names[k]} lies outside of {str(review.items.root)!r}, so no decision could name it; "
                "give the dataset a root that holds all images"
            )
        try:
            size, _, digest = review.known.fingerprint(k)
        except OSError as err:
            raise FileNotFoundError(
                f"{names[k]} cannot be read any more ({err.strerror}); find the groups anew"
            ) from err
        picture = pictures.setdefault(digest, k)
        found.append(
            {
                "id": k,
                "name": names[k],
                "label": labels[k],
                "bytes": size,
                "digest": digest,
                "picture": picture,
            }
        )
    return found


def _group(review: Review, g: int) -> dict:
    group, shown = review.groups[g], row(review, g)
    onto = [review.alignment(group[0], image["id"], g) for image in shown["images"]]
    return {"images": group, "predicted": group.predicted, "row": shown, "onto": onto}


def _in_order(review: Review, items: list[dict]) -> tuple[list[int], list[int]]:
    "The pictures of the first page, and the others that a page shows."
    picture = {item["id"]: item["picture"] for item in items}
    pages = [[picture[k] for k in group[:ROW]] for group in review.groups]
    order = list(dict.fromkeys(k for page in pages for k in page))
    n_first = len({k for page in pages[:PAGE] for k in page})
    return order[:n_first], order[n_first:]


def _pictures(review: Review, ks: list[int]) -> Iterator[str]:
    "A block for each picture, which the page reads when it shows it."

    def block(k: int) -> str:
        name = f"picture-{k}"
        try:
            data = jpeg(review.items.paths[k], SIDE, QUALITY)
        except UnreadableImage as err:
            return _block(name, "text/plain", "", f' data-missing="{html.escape(str(err))}"')
        return _block(name, "text/plain", base64.b64encode(data).decode())

    with ThreadPoolExecutor() as pool:
        yield from pool.map(block, ks)


def _block(name: str, kind: str, text: str, also: str = "") -> str:
    return f'<script type="{kind}" id="imgclean-{name}"{also}>{text}</script>\n'


def as_json(value: object) -> str:
    "JSON of ASCII characters that can stand within any HTML element: no text in it ends the element or opens another."
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _joined(names: Iterable[str]) -> str:
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)


def _hash(text: str) -> str:
    "What the page's policy calls the one script, or style, that may act."
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
