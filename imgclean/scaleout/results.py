"""What was found on many machines, in parquet files, and from these the `Items` and `Groups` that a review opens."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .. import __version__
from ..cascade import SURE, Found
from ..dataset.facts import Facts
from ..dataset.items import Items, Unreadable
from ..dataset.origin import Origin, of_source
from ..dataset.stored import read_json, written_whole
from ..find.groups import Group, Groups, group_pairs
from ..find.keepers import check_keep
from ..find.pairs import Pairs, check_parquet
from ..find.similarity import cosines
from .calibrating import from_json
from .images import UNPACKED, Images, items_of, place_of, unpack
from .tables import Numbering, begin, fingerprint_of, finish, write_table
from .tasks import each, rows_in_file
from .verifying import as_check

PAIRS, GROUPS, LIST, REPORT, IMAGES = (
    "pairs.parquet",
    "groups.parquet",
    "images.parquet",
    "report.json",
    "images",
)
VECTORS = "vectors.npy"  # of all images that are in a pair
KIND, VERSION = "duplicates", 1
BATCH = 2000  # images whose groups a task makes


def write_results(
    numbering: Numbering,
    out: Path,
    pairs: Pairs,  # of row numbers, places among the sorted ids
    images: Images,
    *,
    checks: pa.Table | None = None,  # of each pair, as `verify` returns them; None: scores are cosines
    keep: str = "best",  # policy of `choose_keeper`
    protect: Sequence[str] = (),  # ids, and folders of ids, that stay in any case
    about: dict | None = None,  # what the report shall say of the stages before
) -> dict:
    """What `report.json` says, after pairs.parquet, groups.parquet and the report were written to `out`.

    No group is a chain: a pair that was not found counts as one that is not alike. Images of groups that lie in no
    folder are fetched to `out/images`.
    """
    check_keep(keep)
    start = perf_counter()
    protected = protected_rows(numbering, protect)
    settings = {
        "rows": numbering.fingerprint, "pairs": fingerprint_of(pairs), "keep": keep, "protected": protected.tolist(),
        "root": images.root and str(images.root),
    }  # fmt: skip
    folder = out / "grouping"
    begin(folder, settings)
    write_table(pa.table({"id": numbering.ids, "digest": numbering.digests}), out / LIST)
    _write_pairs(out, numbering, pairs, checks)
    batches = _batches(len(numbering), pairs)
    members = np.unique(np.concatenate([pairs.i, pairs.j]))
    rows_in_file(numbering, members, folder / VECTORS)
    todo = [
        (f"part-{k:06}.parquet", *some)
        for k, some in enumerate(_with_pairs(batches, pairs))
        if not (folder / f"part-{k:06}.parquet").exists()
    ]
    if todo:
        images = unpack(images, numbering.ids.take(pa.array(members)).to_pylist(), out / UNPACKED)
    jobs = (
        (name, ks, numbering.ids.take(pa.array(ks)).to_pylist(), some, np.isin(ks, protected))
        for name, ks, some in todo
    )
    verified = checks is not None
    for _ in each(_group_batch, jobs, folder, out, members, images, keep, verified):
        pass
    groups = _write_groups(out, folder)
    finish(folder, {"groups": groups})
    shutil.rmtree(out / UNPACKED, ignore_errors=True)
    report = _report(out, numbering, pairs, images, groups, keep, len(protected), about or {})
    report["seconds"]["group"] = perf_counter() - start
    with written_whole(out / REPORT) as f:
        f.write((json.dumps(report, indent=1) + "\n").encode())
    return report


def protected_rows(numbering: Numbering, protect: Sequence[str]) -> np.ndarray:  # (m,) int64, sorted
    "Rows whose ids are among `protect` or lie in one of its folders; `ValueError` for one that holds none."
    found = np.zeros(len(numbering), dtype=bool)
    for name in protect:
        name = name.rstrip("/")
        there = pc.or_(pc.equal(numbering.ids, name), pc.starts_with(numbering.ids, name + "/"))
        there = there.to_numpy(zero_copy_only=False)
        if not there.any():
            raise ValueError(
                f"protect names {name!r}, where none of the images lies; give ids or folders of them"
            )
        found |= there
    return np.flatnonzero(found)


def _write_pairs(out: Path, numbering: Numbering, pairs: Pairs, checks: pa.Table | None) -> None:
    columns = {
        "a": numbering.ids.take(pa.array(pairs.i)), "b": numbering.ids.take(pa.array(pairs.j)),
        "i": pairs.i, "j": pairs.j, "score": pairs.score,
    }  # fmt: skip
    table = pa.table(columns)
    for name in () if checks is None else checks.column_names:
        table = table.append_column(name, checks[name])
    write_table(table.replace_schema_metadata({"left_out": str(pairs.left_out)}), out / PAIRS)


def _batches(n: int, pairs: Pairs) -> np.ndarray:  # (len(pairs),) int64
    "A batch for each pair; images that a chain of pairs connects are in one."
    ends = pairs.i.astype(np.int32), pairs.j.astype(np.int32)  # scipy before 1.16 takes no others
    graph = coo_array((np.ones(len(pairs), np.int8), ends), shape=(n, n))
    label = connected_components(graph, directed=False)[1]
    members = np.unique(np.concatenate([pairs.i, pairs.j]))
    size = np.bincount(label[members], minlength=label.max(initial=0) + 1)
    batch = np.cumsum(size) // BATCH  # of each component; components are numbered by their first row
    return batch[label[pairs.i]]


def _with_pairs(batches: np.ndarray, pairs: Pairs) -> Iterator[tuple[np.ndarray, Pairs]]:
    "The rows and the pairs of each batch."
    order = np.argsort(batches, kind="stable")  # pairs stay best first
    for which in np.split(order, np.flatnonzero(np.diff(batches[order])) + 1):
        if len(which):
            some = Pairs(pairs.i[which], pairs.j[which], pairs.score[which])
            yield np.unique(np.concatenate([some.i, some.j])), some


def _group_batch(
    name: str, rows: np.ndarray, ids: list[str], pairs: Pairs, protected: np.ndarray, folder: Path, out: Path,
    members: np.ndarray, images: Images, keep: str, verified: bool,
) -> None:  # fmt: skip
    "Writes the groups of some components."
    vectors = np.load(folder / VECTORS, mmap_mode="r")
    vectors = vectors[np.searchsorted(members, rows)]
    i, j = (np.searchsorted(rows, ks) for ks in (pairs.i, pairs.j))

    def to_keeper(keeper: int, rest: list[int]) -> list[float]:
        return cosines(vectors, np.full(len(rest), keeper), np.array(rest, dtype=np.int64)).tolist()

    with images.items(ids) as items:
        groups = group_pairs(
            Pairs(i, j, pairs.score), partial(Facts, items), to_keeper,
            verified=pairs.score >= SURE if verified else None, complete=True, keep=keep,
            protected=frozenset(np.flatnonzero(protected).tolist()),
        )  # fmt: skip
        if images.root is None:
            _keep_files(groups, ids, items, out)
    write_table(_group_table(groups, rows, ids), folder / name)


def _keep_files(groups: list[Group], ids: list[str], items: Items, out: Path) -> None:
    for k in (k for group in groups for k in group):
        path = out / IMAGES / place_of(ids[k])
        if items.paths[k].exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as f:
                f.write(items.paths[k].read_bytes())


def _group_table(groups: list[Group], rows: np.ndarray, ids: list[str]) -> pa.Table:
    "One row for each image of each group, the one to keep first."
    found = [
        (int(min(rows[list(g)])), place, int(rows[k]), ids[k], place == 0 or k in g.protected, k in g.protected,
         g.similarity, g.scores[place], g.reason if place == 0 else None)
        for g in groups for place, k in enumerate(g)
    ]  # fmt: skip
    columns = list(zip(*found, strict=True)) or [()] * len(GROUP_SCHEMA)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, GROUP_SCHEMA, strict=True)], GROUP_SCHEMA)


GROUP_SCHEMA = pa.schema([
    ("group", pa.int64()),  # 0 for the first, the most similar one
    ("place", pa.int64()),  # in the group, 0 for the image to keep
    ("row", pa.int64()),
    ("id", pa.large_string()),
    ("keep", pa.bool_()),
    ("protected", pa.bool_()),
    ("similarity", pa.float64()),  # of the group's weakest link
    ("score", pa.float64()),  # cosine to the image to keep
    ("reason", pa.large_string()),
])  # fmt: skip


def _write_groups(out: Path, folder: Path) -> int:
    "All groups, most similar first; how many there are."
    tables = [pq.read_table(file) for file in sorted(folder.glob("part-*.parquet"))]
    table = pa.concat_tables([GROUP_SCHEMA.empty_table(), *tables])
    order = [("similarity", "descending"), ("group", "ascending"), ("place", "ascending")]
    table = table.sort_by(order)
    number = (table["place"].to_numpy() == 0).cumsum() - 1
    write_table(table.set_column(0, "group", pa.array(number, pa.int64())), out / GROUPS)
    return int(number[-1]) + 1 if len(number) else 0


def _report(out, numbering, pairs, images, groups, keep, n_protected, about: dict) -> dict:
    unreadable = sum(pq.read_metadata(f).num_rows for f in (out / "unreadable").glob("part-*.parquet"))
    return about | {
        "imgclean": KIND, "version": VERSION, "by": __version__, "root": images.root and str(images.root),
        "settings": {"imgclean": __version__, **about.get("settings", {}), "keep": keep, "protected": n_protected},
        "images": len(numbering), "unreadable": unreadable, "pairs": len(pairs), "groups": groups,
        "pairs_left_out": pairs.left_out, "seconds": dict(about.get("seconds", {})),
    }  # fmt: skip


def is_results(path: Path) -> bool:
    "Whether `path` is a folder that `write_results` wrote to."
    try:
        return read_json(path / REPORT)["imgclean"] == KIND
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_results(out: str | os.PathLike) -> tuple[Items, Groups]:
    """The images and the groups in a folder that `write_results` wrote to, for `ImageCleaner`, `write_report` and `apply`.

    Of a folder, all its images; of another source those of the groups, as files in `out/images`. Raises `ValueError`
    where `out` holds no results.
    """
    check_parquet()
    out = Path(out)
    if not is_results(out):
        raise ValueError(
            f"{str(out)!r} holds no results of imgclean; give the folder that --engine ray wrote to"
        )
    report = read_json(out / REPORT)
    table, pairs = pq.read_table(out / GROUPS), pq.read_table(out / PAIRS)
    if report["root"] is None:
        rows, items = _fetched(out, table)
    else:
        rows, items = None, _of_folder(out, Path(report["root"]))
    there, found = _pairs_among(rows, pairs)
    groups = Groups(_groups(rows, table, items.key()), found, report["settings"])
    groups.seconds = {"look": report["seconds"].get("embed", 0.0)} | report["seconds"]
    groups.looked_at = report["images"]
    groups.protected = frozenset(k for group in groups for k in group.protected)
    if "probability" in report["settings"].get("score", ""):
        groups.found = _found(found, pairs.filter(pa.array(there)), report)
    return items, groups


def _of_folder(out: Path, root: Path) -> Items:
    "Every image of the folder that was embedded; a row is an item."
    ids = pq.read_table(out / LIST, columns=["id"])["id"].to_pylist()
    return _with_unreadable(items_of(ids, root, ids), out)


def _with_unreadable(items: Items, out: Path) -> Items:
    tables = [pq.read_table(file) for file in sorted((out / "unreadable").glob("part-*.parquet"))]
    bad = sorted((row["id"], row["error"]) for table in tables for row in table.to_pylist())
    bad = tuple(Unreadable(items.root / place_of(name), error) for name, error in bad)
    items = replace(items, unreadable=bad)
    return of_source(items, Origin(items.root, items.labels))


def _fetched(out: Path, table: pa.Table) -> tuple[np.ndarray, Items]:
    "The rows of the groups' images that could be fetched, and these."
    one = pa.table({"row": table["row"], "id": table["id"]}).sort_by("row")
    ids = one["id"].to_pylist()
    there = np.array([(out / IMAGES / place_of(name)).exists() for name in ids], dtype=bool)
    ids = [name for name, fetched in zip(ids, there, strict=True) if fetched]
    items = _with_unreadable(items_of(ids, out / IMAGES, list(map(place_of, ids))), out)
    return one["row"].to_numpy()[there], items


def _pairs_among(rows: np.ndarray | None, table: pa.Table) -> tuple[np.ndarray, Pairs]:
    "Which pairs are of two items, and these."
    i, j, score = (table[name].to_numpy() for name in ("i", "j", "score"))
    left_out = int(table.schema.metadata[b"left_out"])
    if rows is None:
        return np.ones(len(i), dtype=bool), Pairs(i, j, score, left_out)
    there = np.isin(i, rows) & np.isin(j, rows)
    i, j = (np.searchsorted(rows, ks[there]) for ks in (i, j))
    return there, Pairs(i, j, score[there], left_out)


def _groups(rows: np.ndarray | None, table: pa.Table, key: bytes) -> Iterator[Group]:
    number, row = table["group"].to_numpy(), table["row"].to_numpy()
    there = np.ones(len(row), dtype=bool) if rows is None else np.isin(row, rows)
    item = row if rows is None else np.searchsorted(rows, row)
    columns = {name: table[name].to_pylist() for name in ("protected", "similarity", "score", "reason")}
    for ks in np.split(np.arange(len(row)), np.flatnonzero(np.diff(number)) + 1):
        ks = ks[there[ks]]
        if len(ks) < 2:
            continue
        first = int(ks[0])
        safe = [int(item[k]) for k in ks if columns["protected"][k]]
        group = Group(
            item[ks].tolist(), columns["similarity"][first], [columns["score"][k] for k in ks],
            columns["reason"][first] or "", safe,
        )  # fmt: skip
        group.dataset = key
        yield group


def _found(found: Pairs, table: pa.Table, report: dict) -> Found:
    "What the second look said of each pair."
    looks = {
        (i, j): (as_check(row), row["stage"]) for (i, j, _), row in zip(found, table.to_pylist(), strict=True)
    }  # fmt: skip
    learnt = report.get("calibration")
    return Found(
        found, found, looks, report["settings"]["cut"], learnt and from_json(learnt), report["seconds"]
    )
