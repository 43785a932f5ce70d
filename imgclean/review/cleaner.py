"""`ImageCleaner`: the grid in the notebook. Transport alone: every decision is made and kept by `Review`."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import anywidget
import traitlets

from ..dataset.images import UnreadableImage
from ..dataset.items import Items
from ..dataset.quarantine import Restored
from ..dataset.sources import read_source
from ..dataset.wording import counted, human_bytes
from .apply import Applied
from .filters import Filter
from .regions import shown_regions
from .regroup import as_groups
from .session import Review
from .shown import jpeg, row

log = logging.getLogger(__name__)
HERE = Path(__file__).parent
THUMB = 240  # longest side in pixels of what the grid shows
FULL_SIDES, FULL_BYTES = (
    (None, 3072, 2048),
    1_200_000,
)  # Jupyter drops what is more than 3 MB in three seconds
SCRIPTS = ("dialogs.js", "compare.js", "filters.js", "rows.js", "cleaner.js")  # one module


class ImageCleaner(anywidget.AnyWidget):
    """The grid that shows groups of images and takes a person's decisions, each saved to disk at once.

    Marking touches no file; Apply, or `.apply()`, writes `path/'cleaned.csv'`. Running the cell again continues
    the review. `.review` holds everything as plain Python: marks, undo, redo. Call shape of fastai v1.
    """

    _esm = "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    _css = HERE / "cleaner.css"
    batch_size = traitlets.Int(5).tag(sync=True)
    single = traitlets.Bool(False).tag(sync=True)
    vocab = traitlets.List(traitlets.Unicode()).tag(sync=True)
    grades = traitlets.List(traitlets.Unicode()).tag(sync=True)
    predicted = traitlets.List(traitlets.Unicode()).tag(sync=True)  # classes to filter by
    deletes = traitlets.Bool(True).tag(sync=True)  # whether images may be marked for deletion
    applies = traitlets.Bool(True).tag(sync=True)  # whether there is anything to apply
    explains = traitlets.Bool(False).tag(
        sync=True
    )  # whether a model can say which regions of two images agree
    _review_class = Review  # what keeps the decisions

    def __init__(
        self,
        dataset: Items,  # or fastai DataLoaders, or what else `read_source` takes but names of files
        fns_idxs: Iterable,  # groups, or v1's flat list of indices
        path: str | os.PathLike | None = None,  # gets `cleaned.csv`; default: the dataset's root
        batch_size: int = 5,  # rows on a page
        duplicates: bool
        | None = None,  # True: a flat list means pairs; False: single images, to relabel or delete
        *,
        ledger: str
        | os.PathLike
        | None = None,  # file of the decisions; default `path/.imgclean/review.jsonl`
    ):
        items = _items(dataset)
        groups = as_groups(fns_idxs, duplicates)
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; show at least one row on a page")
        self.review = self._review_class(items, groups, path, ledger=ledger)
        single = not any(len(g) > 1 for g in groups)
        shown = dict(vocab=list(items.vocab), grades=self.review.grades)
        shown["predicted"] = sorted({g.predicted for g in groups} - {None})
        super().__init__(batch_size=batch_size, single=single, **shown)
        self._explain, self.explains = groups.explain, groups.explain is not None
        self._shared = len({k for g in groups for k in g}) < sum(map(len, groups))
        self._filter, self._order = Filter(), list(range(len(self.review.groups)))
        self.review.on_change(self._show_change)
        self.on_msg(self._receive)

    # the outcome, as data

    @property
    def deleted(self) -> list[int]:
        "Items marked to be left out, sorted."
        return self.review.deleted

    @property
    def kept(self) -> list[int]:
        "Items that a person chose to keep, sorted."
        return self.review.kept

    @property
    def relabeled(self) -> dict[int, str]:
        "New label of each relabelled item."
        return self.review.relabeled

    @property
    def undecided(self) -> list[int]:
        "Items of the groups that carry no mark, sorted."
        return self.review.undecided

    @property
    def decisions(self) -> dict[str, str]:
        "Relative path -> 'delete' or 'keep', for every marked item."
        return self.review.decisions

    def cleaned(self) -> Items:
        "The dataset without the images marked for deletion, with the new labels; has `.dataloaders()` and `.df()`."
        return self.review.cleaned()

    def plan(self, action: str = "csv") -> dict:
        "What `apply` would do; see `Review.plan`."
        return self.review.plan(action)

    def apply(self, lose_groups: bool | Collection[int] = False, *, action: str = "csv") -> Applied:
        "Write `cleaned.csv`, and move files if `action` says so; see `Review.apply`."
        done = self.review.apply(lose_groups, action=action)
        self._show_counts()
        return done

    def restore(self, manifest: str | os.PathLike | Applied | None = None) -> Restored:
        "Put the files of a quarantine back, by default of all; see `Review.restore`."
        back = self.review.restore(manifest)
        self._show_counts()
        return back

    def __repr__(self) -> str:
        # The inherited one would serialise every trait.
        c = self._counts()
        found = f"{c['decided']}/{c['groups']} groups decided, {c['delete']} images marked for deletion"
        return f"{type(self).__name__}({found})"

    # the wire: unknown or malformed messages are logged and ignored

    def _receive(self, _widget, message, _buffers) -> None:
        kinds = {
            "page": self._send_page,
            "pictures": self._send_pictures,
            "filter": self._set_filter,
            "align": self._send_alignment,
            "explain": self._send_regions,
            "plan": self._send_plan,
            "do": self._act,
        }
        try:
            kinds[message["type"]](message)
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            log.warning("ignored a message that makes no sense: %r (%s)", message, err)

    def _send_page(self, message: dict) -> None:
        review = self.review
        with review.lock:
            last = max(0, (len(self._order) - 1) // self.batch_size)
            focus = None
            if "after" in message:  # the next undecided group; -1 at the start
                focus = self._next_undecided(int(message["after"]))
                page = 0 if focus is None else self._order.index(focus) // self.batch_size
            else:
                page = min(max(int(message["page"]), 0), last)
            start = page * self.batch_size
            groups = [row(review, g) for g in self._order[start : start + self.batch_size]]
            answer = {"type": "page", "page": page, "last": last, "groups": groups, "counts": self._counts()}
            answer |= {"shared": self._shared, "filter": asdict(self._filter)}
            if "after" in message:  # only the view that asked goes there
                answer |= {"view": message.get("view"), "focus": focus}
            self.send(answer)

    def _next_undecided(self, after: int) -> int | None:
        "The first undecided group on screen or behind it, in the order of the filter."
        here = self._order.index(after) + 1 if after in self._order else 0
        around = self._order[here:] + self._order[:here]
        return next((g for g in around if not self.review.is_decided(g)), None)

    def _set_filter(self, message: dict) -> None:
        "The order stays until the next filter: what is decided meanwhile does not vanish under the hand."
        wanted = Filter.of(message["fields"])
        self._filter, self._order = wanted, self.review.select(wanted)
        self.send({"type": "filtered", "view": message.get("view"), "filter": asdict(wanted)})

    def _send_alignment(self, message: dict) -> None:
        "How two images of a group lie on each other, for the comparison."
        review, g = self.review, int(message["group"])
        left, right = review._indices([message["left"], message["right"]])
        sizes = [review.items.size(k) for k in (left, right)]
        matrix = review.alignment(left, right, g)
        self.send({"type": "aligned", "left": left, "right": right, "sizes": sizes, "matrix": matrix})

    def _send_regions(self, message: dict) -> None:
        "Which regions of two images agree, as pictures to lay over them; or why that cannot be said."
        if not self.explains:
            raise ValueError("no model came with these groups")
        items = self.review.items
        pair = self.review._indices([message["left"], message["right"]])
        answer, pictures = shown_regions(
            self._explain, [items.paths[k] for k in pair], [items.size(k) for k in pair]
        )
        self.send({"type": "explained", "left": pair[0], "right": pair[1], **answer}, pictures)

    def _send_pictures(self, message: dict) -> None:
        "JPEGs of the items asked for; those that cannot be shown, with the reason."
        full = bool(message.get("full"))
        ids, buffers, missing = [], [], {}
        for k in self.review._indices(message["ids"][:200]):
            try:
                path = self.review.items.paths[k]
                buffers.append(_full(path) if full else _thumb(path, path.stat().st_mtime_ns))
                ids.append(k)
            except OSError as err:
                missing[k] = str(err) if isinstance(err, UnreadableImage) else "the file does not exist"
        self.send({"type": "pictures", "full": full, "ids": ids, "missing": missing}, buffers)

    def _send_plan(self, message: dict) -> None:
        plan = self.review.plan(message.get("action", "csv"))
        plan |= {"bytes": human_bytes(plan["bytes"]), "n_refused": len(plan["refused"])}
        plan |= {"refused": dict(list(plan["refused"].items())[:8]), "files": []}
        self.send({"type": "plan", "view": message.get("view"), **plan})

    def _act(self, message: dict) -> None:
        seq, review = message["seq"], self.review
        actions = {
            "mark": lambda: review.mark(message["ids"], message["value"]),
            "relabel": lambda: review.relabel(message["ids"], message["value"]),
            "keep_only": lambda: review.keep_only(message["ids"], list(message["groups"])),
            "keep_all": lambda: review.keep_all(list(message["groups"])),
            "not_duplicate": lambda: review.not_duplicate(message["ids"], message["group"]),
            "keep_best": lambda: review.keep_best(message["groups"]),
            "accept_suggestions": lambda: _accepted(review, message["groups"], message["grade"]),
            "accept": lambda: review.accept(message["group"]),
            "relabel_to_majority": lambda: _relabelled(review, message["groups"], message["ids"]),
            "drop_all": lambda: review.drop_all(list(message["groups"])) and "",
            "undo": review.undo,
            "redo": review.redo,
            "apply": lambda: _applied(review.apply(bool(message["lose_groups"]), action=message["action"])),
        }
        reply = {"seq": seq, "view": message.get("view")}
        self._told_apart = False
        try:
            answer = actions[message["do"]]()
        except (OSError, ValueError, ImportError) as err:
            self.send({"type": "refused", **reply, "text": str(err), "counts": self._counts()})
            return
        if message["do"] in ("undo", "redo"):
            note = _repeated(review, message["do"], answer, self._told_apart)
            reply |= {"group": self._group_of(answer or [])}
        else:
            note = answer or ""
        self.send({"type": "done", **reply, "note": note, "counts": self._counts()})

    def _group_of(self, items: list[int]) -> dict | None:  # {"id": group, "page": page}
        "The first group on the pages that shows one of `items`."
        changed, groups = set(items), self.review.groups
        at = next((at for at, g in enumerate(self._order) if changed.intersection(groups[g])), None)
        return None if at is None else {"id": self._order[at], "page": at // self.batch_size}

    def _show_change(self, change: dict) -> None:
        "Tell every view, so that several views of one review agree."
        self._told_apart = bool(change["apart"])
        if change["apart"] or len(change["marks"]) + len(change["labels"]) > 500:
            self.send({"type": "reload"})
        else:
            clash = self.review.clashes_of({*change["labels"], *change["marks"]})
            self.send({"type": "changed", **change, "clash": clash, "counts": self._counts()})

    def _show_counts(self) -> None:
        self._show_change({"marks": {}, "labels": {}, "apart": []})

    def _counts(self) -> dict:
        review = self.review
        deleted, labels, (before, old) = review.deleted, review.relabeled, review.applied
        return {
            "groups": len(review.groups),
            "decided": review.n_decided,
            "delete": len(deleted),
            "relabel": len(labels),
            "images": len(review.items),
            "shown": len(self._order),
            "apart": review.n_apart,
            "apply": len(before.symmetric_difference(deleted)) + len(dict(labels.items() ^ old.items())),
        }


def _accepted(review: Review, groups: list[int] | None, grade: str | None) -> str:
    with review.lock:  # what others decided meanwhile is counted as theirs
        open_ = review.select(grade=grade, state="undecided")
        listed = [g for g in open_ if groups is None or g in groups]
        left, before = len(listed) - len(review.agreed(listed)), len(review.deleted)
        n = review.accept_suggestions(groups, grade)
        delete = len(review.deleted) - before
    said = f"suggestions accepted: {n - delete} to keep, {delete} to delete; u or Undo takes it back"
    rest = f"; {left} left to you, whose labels differ" if left else ""
    return (said if n else "nothing was left to suggest") + rest


def _repeated(review: Review, do: str, items: list[int] | None, apart: bool) -> str:
    "What the grid has to say of an undo or redo: where nothing was done, or what it does not show."
    if items is None:
        return f"nothing to {do}"
    shown = {k for group in review.groups for k in group}
    unseen = [review.known.names[k] for k in items if k not in shown]
    if not unseen:
        return ""
    more = f" and {len(unseen) - 1} more" if len(unseen) > 1 else ""
    done = "undone" if do == "undo" else "done again"
    again = "; run the cell again to see them" if do == "undo" and apart else ""
    return f"{done} for {unseen[0]}{more}, which this grid does not show{again}"


def _relabelled(review: Review, groups: list[int], ids: list[int]) -> str:
    n = review.relabel_to_majority(list(groups), ids)
    return (
        f"relabelled {counted(n, 'image')}"
        if n
        else "nothing to relabel: the labels agree, or those of the chosen images tie as well"
    )


def _applied(done: Applied) -> str:
    return f"{done}. cleaner.restore() brings the moved files back" if done.quarantined else str(done)


def _items(dataset) -> Items:
    "What the indices mean; a folder's images may be others by now than when they were found."
    if isinstance(dataset, (str, os.PathLike)):
        raise TypeError(
            f"dataset is a {type(dataset).__name__}; give the `ds` that DatasetFormatter returns, Items, or DataLoaders"
        )
    return read_source(dataset)


@lru_cache(maxsize=1000)
def _thumb(path: Path, _mtime: int) -> bytes:
    return jpeg(path, THUMB, 82)


def _full(path: Path) -> bytes:
    "The picture as large as one message may be."
    for side in FULL_SIDES:
        data = jpeg(path, side, 92)
        if len(data) <= FULL_BYTES:
            break
    return data
