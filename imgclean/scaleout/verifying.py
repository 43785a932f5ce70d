"""The second look at pairs on many machines: batches of pairs, each looked at by one task and kept in a file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..cascade import UNCALIBRATED
from ..checks import ABOUT
from ..find.pairs import Pairs
from ..find.similarity import cosines
from ..find.stages import linked_pairs
from ..find.verify import Check, neighbours_together, verify_pairs
from .images import UNPACKED, Images, unpack
from .tables import Numbering, begin, finish, write_table
from .tasks import each, rows_in_file

BATCH = 256  # pairs that a task looks at
LINKED = "linked"
SCHEMA = pa.schema([
    ("probability", pa.float64()), ("grade", pa.string()), ("what", pa.string()),
    ("transform", pa.string()),  # JSON of two rows of three numbers, see `Check`
    ("mirrored", pa.bool_()),
])  # fmt: skip


def verify(
    numbering: Numbering,
    out: Path,  # gets the folder `checks`
    pairs: Pairs,  # of rows; the score is the cosine of their embeddings
    images: Images,
) -> pa.Table:  # of `SCHEMA`
    """What `verify_pairs` says of each of `pairs`, in their order.

    A batch is known by the digests of its files and their cosines, so one that was looked at is not looked at again,
    whatever else has changed.
    """
    folder = out / "checks"
    begin(folder, {"checks": ABOUT.hex()})
    order = neighbours_together(pairs, len(numbering))
    batches = [order[k : k + BATCH] for k in range(0, len(order), BATCH)]
    names = [_name(numbering, pairs, batch) for batch in batches]
    todo = [(name, batch) for name, batch in zip(names, batches, strict=True) if not (folder / name).exists()]
    if todo:
        ends = np.unique(np.concatenate([ks[batch] for _, batch in todo for ks in (pairs.i, pairs.j)]))
        images = unpack(images, numbering.ids.take(pa.array(ends)).to_pylist(), out / UNPACKED)
    jobs = (_job(numbering, name, pairs, batch) for name, batch in todo)
    for _ in each(_check_batch, jobs, folder, images):
        pass
    finish(folder, {})
    found = pa.concat_tables([SCHEMA.empty_table(), *(pq.read_table(folder / name) for name in names)])
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    return found.take(pa.array(back))


def with_linked(
    numbering: Numbering, out: Path, pairs: Pairs, stages: np.ndarray, checks: pa.Table, images: Images
) -> tuple[Pairs, np.ndarray, pa.Table]:
    "Pairs, stages and checks with those of the images that two others link, see `linked_pairs`."
    same = _of(pairs, checks["probability"].to_numpy() >= UNCALIBRATED)
    ends = np.unique(np.concatenate([same.i, same.j]))
    known = _of(pairs, np.isin(pairs.i, ends) & np.isin(pairs.j, ends))
    more = linked_pairs(same, known)
    ends = np.unique(np.concatenate([more.i, more.j]))
    i, j = np.searchsorted(ends, more.i), np.searchsorted(ends, more.j)
    file = out / ".linked.npy"
    file.unlink(missing_ok=True)  # of a run that was killed
    more = Pairs.of(more.i, more.j, cosines(rows_in_file(numbering, ends, file), i, j))
    file.unlink()
    both = (np.concatenate(ab) for ab in ((pairs.i, more.i), (pairs.j, more.j), (pairs.score, more.score)))
    stages = np.concatenate([stages, np.full(len(more), LINKED)])
    return (
        Pairs(*both, pairs.left_out), stages, pa.concat_tables([checks, verify(numbering, out, more, images)])
    )  # fmt: skip


def as_check(row: dict) -> Check:
    "A row of a table of checks."
    transform = json.loads(row["transform"])
    return Check(
        row["probability"], row["grade"], row["what"], transform and tuple(map(tuple, transform)), row["mirrored"]
    )  # fmt: skip


def _of(pairs: Pairs, which: np.ndarray) -> Pairs:
    return Pairs(pairs.i[which], pairs.j[which], pairs.score[which])


def _name(numbering: Numbering, pairs: Pairs, batch: np.ndarray) -> str:
    "A name for the batch's file that tells what was compared."
    digest = hashlib.blake2b(digest_size=16)
    for ks in (pairs.i[batch], pairs.j[batch]):
        for data in numbering.digests.take(pa.array(ks)).to_pylist():
            digest.update(data)
    # Rounded, since the last bits of a cosine may differ from machine to machine.
    digest.update(np.round(pairs.score[batch] * 1e4).astype("<i4").tobytes())
    return f"{digest.hexdigest()}.parquet"


def _job(numbering: Numbering, name: str, pairs: Pairs, batch: np.ndarray) -> tuple[str, list[str], Pairs]:
    rows = np.unique(np.concatenate([pairs.i[batch], pairs.j[batch]]))
    i, j = (np.searchsorted(rows, ks[batch]) for ks in (pairs.i, pairs.j))
    return name, numbering.ids.take(pa.array(rows)).to_pylist(), Pairs(i, j, pairs.score[batch])


def _check_batch(name: str, ids: list[str], pairs: Pairs, folder: Path, images: Images) -> None:
    "Writes the checks of some pairs."
    with images.items(ids) as items:
        checks = verify_pairs(items, pairs, num_workers=0, progress=False)
    write_table(_table(checks), folder / name)


def _table(checks: list[Check]) -> pa.Table:
    rows = (check._replace(transform=json.dumps(check.transform)) for check in checks)
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], SCHEMA)
