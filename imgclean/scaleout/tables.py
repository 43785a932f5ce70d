"""Tables of a run on many machines: written whole, one folder a stage, and the number of each image in them."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..dataset.stored import read_json, written_whole
from ..find.pairs import Pairs

SETTINGS, DONE, META = "settings.json", "done.json", "meta.json"


@dataclass(frozen=True)
class Numbering:
    "Every image that was embedded, numbered by its place among the sorted ids, whatever file its vector is in"

    ids: pa.Array  # (n,) large_string, sorted
    digests: pa.Array  # (n,) large_binary, of the files
    parts: tuple[tuple[str, np.ndarray], ...]  # file of embeddings, numbers of its rows (rows,) int64
    d: int  # numbers of a vector
    fingerprint: str

    def __len__(self) -> int:
        return len(self.ids)


def number_rows(embeddings: Path) -> Numbering:
    "The numbering of the files `part-*.parquet` in a folder; raises `ValueError` for none and for an id that is there twice."
    files = sorted(embeddings.glob("part-*.parquet"))
    tables = [pq.read_table(file, columns=["id", "digest"]) for file in files]
    ids = _joined(tables, "id", pa.large_string())
    if not len(ids):
        raise ValueError(f"no embeddings in {str(embeddings)!r}; embed images first")
    order = pc.array_sort_indices(ids).to_numpy()
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.arange(len(order))
    ids, digests = (
        ids.take(pa.array(order)),
        _joined(tables, "digest", pa.large_binary()).take(pa.array(order)),
    )
    twice = pc.equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    if twice.any():
        raise ValueError(
            f"{ids[int(twice.argmax())].as_py()!r} is twice in {str(embeddings)!r}; give each image an id of its own"
        )
    ends = np.cumsum([len(table) for table in tables])
    parts = tuple(zip(map(str, files), np.split(number, ends[:-1]), strict=True))
    d = pq.read_schema(files[0]).field("vector").type.list_size
    return Numbering(ids, digests, parts, d, _fingerprint(embeddings, ids, digests, parts))


def _joined(tables: list[pa.Table], column: str, kind: pa.DataType) -> pa.Array:
    chunks = [chunk.cast(kind) for table in tables for chunk in table[column].chunks]
    return pa.concat_arrays(chunks) if chunks else pa.array([], kind)


def _fingerprint(embeddings: Path, ids: pa.Array, digests: pa.Array, parts: tuple) -> str:
    "Of what was embedded, by which model, and which file holds it."
    digest = hashlib.blake2b(digest_size=16)
    for buffer in (*ids.buffers()[1:], *digests.buffers()[1:]):
        digest.update(buffer)
    for file, numbers in parts:
        digest.update(Path(file).name.encode() + numbers.tobytes())
    if (embeddings / META).exists():
        digest.update((embeddings / META).read_bytes())
    return digest.hexdigest()


def fingerprint_of(pairs: Pairs) -> str:
    "Of rows and scores."
    digest = hashlib.blake2b(digest_size=16)
    for column in (pairs.i, pairs.j, pairs.score):
        digest.update(np.ascontiguousarray(column))
    return digest.hexdigest()


def matrix(vectors: pa.Array | pa.ChunkedArray) -> np.ndarray:  # (n, d) float32
    "A column of vectors as an array."
    d = vectors.type.list_size
    if isinstance(vectors, pa.ChunkedArray):
        vectors = pa.concat_arrays(vectors.chunks) if vectors.num_chunks else pa.array([], vectors.type)
    return vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, d)


def column_of(rows: np.ndarray) -> pa.FixedSizeListArray:
    "A matrix as a column, one row a cell."
    return pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(rows).ravel(), rows.shape[1])


def write_table(table: pa.Table, path: Path) -> None:
    "A parquet file, whole or not at all."
    with written_whole(path) as f:
        pq.write_table(table, f)


def begin(folder: Path, settings: dict) -> dict | None:
    """What a stage said when it was done, None where it is still to do or other settings made what is in its `folder`.

    Results of other settings are removed, those of a stage that was stopped stay. Raises `ValueError` where the
    folder holds something else.
    """
    if folder.exists():
        if not (folder / SETTINGS).exists() and any(folder.iterdir()):
            raise ValueError(f"{str(folder)!r} holds no results of imgclean; give another folder for them")
        if (folder / SETTINGS).exists() and read_json(folder / SETTINGS) == settings:
            return read_json(folder / DONE) if (folder / DONE).exists() else None
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    _write_json(folder / SETTINGS, settings)
    return None


def finish(folder: Path, said: dict) -> dict:
    "Notes that the stage is done and what it says of itself, and returns that; what killed workers left half is removed."
    for half in folder.rglob(".*"):
        half.unlink(missing_ok=True)
    _write_json(folder / DONE, said)
    return said


def _write_json(path: Path, data: dict) -> None:
    with written_whole(path) as f:
        f.write(json.dumps(data, indent=1).encode())
