"""What the grid shows of groups: a row of facts for each, and pictures as JPEGs. Knows neither widget nor page."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from ..dataset.images import open_image
from ..dataset.wording import human_bytes
from .looks import NO_LOOK

if TYPE_CHECKING:
    from .session import Review

ROW = 40  # images of a group that a row shows; actions on the group reach the others as well


def row(review: Review, g: int) -> dict:
    "Group `g` as the grid draws it; JSON can hold it."
    group = review.groups[g]
    alike = [*group.scores, *[None] * (len(group) - len(group.scores))]
    looks = [NO_LOOK, *review.looks(g)]
    images = [
        _cell(review, k, score) | {"grade": look.grade, "what": look.what}
        for k, score, look in list(zip(group, alike, looks, strict=True))[:ROW]
    ]
    return {
        "id": g,
        "similarity": group.similarity,
        "reason": group.reason,
        "protected": list(group.protected),
        "grade": review.grade(g),
        "leak": review.is_leak(g),
        "clash": review.clash_in_words(g),
        "apart": _apart(review, g),
        "images": images,
        "more": len(group) - len(images),
    }


def _apart(review: Review, g: int) -> list[int]:
    "Images of group `g` that a person told to be other pictures than all the others."
    parts = review.parts(g)
    return [part[0] for part in parts if len(part) == 1] if len(parts) > 1 else []


def _cell(review: Review, k: int, similarity: float | None) -> dict:
    items = review.items
    width, height = items.size(k)
    return {
        "id": k,
        "name": items.relpath(k),
        "label": review.label_of(k),
        "relabeled": k in review.relabeled,
        "split": items.splits[k],
        "pixels": f"{width}×{height}",
        "bytes": human_bytes(items.n_bytes(k)),
        "similarity": similarity,
        "mark": review.mark_of(k),
    }


def jpeg(
    path: Path,
    side: int | None,  # longest, in pixels; None: as large as it is
    quality: int,
) -> bytes:
    "The picture in `path` as a JPEG, never enlarged; raises `UnreadableImage`."
    im = open_image(path, size=side)
    if side:
        im.thumbnail((side, side))
    out = io.BytesIO()
    im.save(out, "JPEG", quality=quality)
    return out.getvalue()
