"""Vectors of the images of a source, by actors that hold the model; what is on the disk is not computed again."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
import torch
from tqdm.auto import tqdm

from ..cascade import Watch
from ..dataset.stored import read_json, written_whole
from ..features.inputs import Looked
from ..features.precision import CHUNK
from .looking import Batch, Model, decoded, looking, made_up, seen
from .sources import IMAGES, TARS, Raw, Source, read_unit
from .tables import META, write_table

PART = 512  # images in a part: what is lost at most, for each actor, where something is killed
MANY = 100_000  # images that tars and parquet files are taken to hold, where that decides on a precision
PICTURES = 4 * CHUNK  # images on which precisions are tried


class Seen(NamedTuple):
    "What was done for the images of a source"

    images: int  # that have a vector
    unreadable: int
    looked: int  # of both, in this run
    seconds: float
    work: dict[str, float]  # seconds of all actors together, for each of `WORK`
    bytes: int  # of the images that were looked at


def embed_source(
    source: Source,
    out: Path,  # a folder that all machines of the cluster share
    model: Model,
    *,
    precision: str | None = None,  # one of `precision.PRECISIONS`; None: the fastest that agrees with fp32
    num_gpus: float = 0,  # of each actor
    concurrency: int | None = None,  # actors; None: as many as there are GPUs or CPUs for
    progress: bool = True,
) -> Seen:
    """Vectors of all images in `out/embeddings/part-*.parquet`, what cannot be read in `out/unreadable`.

    What is there already is not looked at again. Raises `ValueError` where that was made with another model or from
    another source.
    """
    watch = Watch()
    parts, bad = out / "embeddings", out / "unreadable"
    for folder in (parts, bad):
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".part-*"):  # by a process that was killed
            left.unlink(missing_ok=True)
    n_actors = concurrency or actors(num_gpus)
    about = _settings(source, parts, model, precision, num_gpus, n_actors)
    if source.unreadable:
        write_unreadable(bad / "part-listed.parquet", list(source.unreadable.items()))
    size = min(max(-(-len(source.names) // (4 * n_actors)), CHUNK), PART) if source.kind == IMAGES else PART
    units = source.units(size, {*ids_in(parts), *ids_in(bad)}, _finished(parts))
    total = {"images": 0, "bytes": 0} | dict.fromkeys(WORK, 0.0)
    if units:
        n_actors = min(n_actors, len(units))
        look = _pipeline(units, ray.put(model), about["precision"], out, size, num_gpus, n_actors)
        with tqdm(desc="looking", unit="img", disable=None if progress else True) as bar:
            for row in look.iter_rows():
                total = {key: value + row[key] for key, value in total.items()}
                bar.update(row["images"])
                if row["finished"]:
                    _note_finished(parts, row["finished"])
    watch.lap("embed")
    return Seen(
        _rows_in(parts), _rows_in(bad), total["images"], watch.seconds["embed"],
        {key: total[key] for key in WORK}, total["bytes"],
    )  # fmt: skip


def actors(num_gpus: float) -> int:
    "For how many actors the cluster has GPUs, or CPUs where they need none."
    there = ray.cluster_resources()
    n = int(there.get("GPU", 0) / num_gpus if num_gpus else there.get("CPU", 1))
    if not n:
        raise ValueError(
            f"num_gpus is {num_gpus}, and Ray knows of {there.get('GPU', 0):g} GPUs; "
            "give fewer, or concurrency= where the cluster starts machines on request"
        )
    return n


def _pipeline(
    units: list[dict], model: ray.ObjectRef, precision: str, out: Path, size: int, num_gpus: float, n_actors: int
) -> ray.data.Dataset:  # fmt: skip
    "What is done, a row for each part. Beside GPUs the cores decode for them; else each core does all of it."
    rows = [{"unit": json.dumps(unit)} for unit in units]
    work = ray.data.from_items(rows, override_num_blocks=len(rows))
    pool = ray.data.ActorPoolStrategy
    if num_gpus:
        work = work.map_batches(
            Decoder, batch_size=1, compute=pool(min_size=1), fn_constructor_args=(model,), num_cpus=1
        )
    return work.map_batches(
        Seer if num_gpus else Embedder,
        batch_size=size if num_gpus else 1,
        compute=pool(size=n_actors),
        fn_constructor_args=(model, precision, num_gpus, out, size),
        num_cpus=1,
        num_gpus=num_gpus,
    )


def _finished(parts: Path) -> set[str]:
    "Names of the tars of which nothing is left to read."
    file = parts / "finished.txt"
    return set(file.read_text(encoding="utf-8").split("\n")) if file.exists() else set()


def _note_finished(parts: Path, name: str) -> None:
    with open(parts / "finished.txt", "a", encoding="utf-8") as f:
        f.write(name + "\n")


def _settings(
    source: Source, parts: Path, model: Model, precision: str | None, num_gpus: float, actors: int
) -> dict:
    "What the vectors are made with: as it was, where some are there; it is in `META` when this returns."
    file = parts / META
    was = read_json(file) if file.exists() else {}
    if was.get("source", source.given) != source.given:
        raise ValueError(
            f"{str(parts.parent)!r} holds the embeddings of {was['source']!r}, now {source.given!r} is asked for; "
            "give another folder to write to"
        )
    some = [raw.data for raw in islice(_raws(source.units(PART)), PICTURES) if raw.data]
    n = len(source.names) if source.kind == IMAGES else MANY
    work = (model, precision or was.get("precision"), num_gpus, some, n / actors)
    # Where the actors compute, since a GPU is another precision's friend than a CPU.
    about = ray.get(ray.remote(num_gpus=num_gpus)(_about).remote(*work)) if num_gpus else _about(*work)
    if was and (about["fingerprint"] is None or about["fingerprint"] != was["fingerprint"]):
        raise ValueError(
            f"{str(parts.parent)!r} holds embeddings by another model, layer, pooling or precision, or by other versions "
            f"of torch, timm or Pillow ({was['layer']}, {was['precision']}); give what they were made with, or another folder"
        )
    if not was:
        with written_whole(file) as f:
            f.write(json.dumps({"source": source.given, "kind": source.kind} | about, indent=1).encode())
    return about


def made_with(parts: Path, model: Model) -> dict:
    "What a report says of the model and of how it was used."
    about = read_json(parts / META)
    return model.settings | {name: about[name] for name in ("layer", "precision")}


def _raws(units: Iterable[dict]) -> Iterator[Raw]:
    return chain.from_iterable(map(read_unit, units))


def _about(model: Model, precision: str | None, num_gpus: float, some: list[bytes], n: float) -> dict:
    "What the vectors depend on, and their width; `n` images for each actor tell whether to try precisions."
    with looking(model, num_gpus, map(io.BytesIO, some)) as eye:
        eye.open(precision, int(n))
        fingerprint = eye.fingerprint(eye.precision, "float32")
        return {
            "fingerprint": fingerprint and fingerprint.hex(),
            "layer": " + ".join(eye.layers),
            "precision": eye.precision,
            "d": eye.d,
        }


class Embedder:
    "An actor that reads units of a source and writes their vectors"

    def __init__(self, model: ray.ObjectRef, precision: str, num_gpus: float, out: Path, size: int):
        self.model, self.out, self.size = ray.get(model), out, size
        self.held = ExitStack()  # for the actor's life
        self.eye = self.held.enter_context(looking(self.model, num_gpus))
        self.eye.open(precision, 0)

    def __call__(self, units: dict[str, np.ndarray]) -> Iterator[dict]:
        "What was done, part by part."
        for unit in map(json.loads, units["unit"]):
            raws = read_unit(unit)
            for first in raws:
                yield self._part(first.id, chain([first], islice(raws, self.size - 1)))
            if unit["kind"] == TARS:
                yield _row(finished=unit["name"])

    def _part(self, first: str, raws: Iterator[Raw]) -> dict:
        if part_file(self.out, first).exists():  # by an actor that was killed before it could say so
            return _row(images=sum(1 for _ in raws))
        watch, n_bytes, batches = Watch(), 0, []
        while some := list(islice(raws, self.model.bs)):
            n_bytes += sum(len(raw.data or b"") for raw in some)
            watch.lap("read")
            batch = decoded(self.eye.looked, some)
            watch.lap("decode")
            batches.append(seen(self.eye, batch))
            watch.lap("see")
        n = write_part(self.out, self.eye.d, batches)
        watch.lap("write")
        return _row(images=n, bytes=n_bytes, **watch.seconds)


class Decoder:
    "An actor that reads units of a source and makes of them what the model sees"

    def __init__(self, model: ray.ObjectRef):
        model = ray.get(model)
        self.bs = model.bs
        self.looked = Looked(model.inputs, [], model.max_pixels)
        self.blank = np.zeros_like(made_up(model.inputs).numpy())  # in place of what cannot be seen

    def __call__(self, units: dict[str, np.ndarray]) -> Iterator[dict]:
        "The columns of `Batch`, some images at a time."
        for unit in map(json.loads, units["unit"]):
            raws = read_unit(unit)
            while some := list(islice(raws, self.bs)):
                batch, x = decoded(self.looked, some), np.repeat(self.blank[None], len(some), 0)
                if batch.values is not None:
                    x[[not error for error in batch.errors]] = batch.values.numpy()
                yield {
                    "id": batch.ids, "digest": batch.digests, "error": batch.errors, "x": x,
                    "bytes": [len(raw.data or b"") for raw in some],
                }  # fmt: skip


class Seer(Embedder):
    "An actor that writes the vectors of what a `Decoder` hands on"

    def __call__(self, batch: dict[str, np.ndarray]) -> Iterator[dict]:
        "What was done, part by part."
        ids, errors = batch["id"].tolist(), batch["error"].tolist()
        if part_file(self.out, ids[0]).exists():
            yield _row(images=len(ids))
            return
        watch, good = Watch(), batch["error"] == ""
        x = torch.from_numpy(batch["x"][good]).split(self.model.bs) if good.any() else ()
        vectors = np.concatenate([self.eye.see(xb) for xb in x]) if x else None
        watch.lap("see")
        n = write_part(self.out, self.eye.d, [Batch(ids, batch["digest"].tolist(), errors, vectors)])
        watch.lap("write")
        yield _row(images=n, bytes=int(batch["bytes"].sum()), **watch.seconds)


def part_file(out: Path, first: str, folder: str = "embeddings") -> Path:
    "The file of the images that begin with `first`: each image is in one part only."
    return out / folder / f"part-{hashlib.blake2b(first.encode(), digest_size=16).hexdigest()}.parquet"


def write_part(out: Path, d: int, batches: list[Batch]) -> int:
    "Vectors into one file and what cannot be seen into another; how many images that are."
    rows = [row for b in batches for row in zip(b.ids, b.digests, b.errors, strict=True)]
    bad = [(id, error) for id, _, error in rows if error]
    if bad:  # first: a part that is there is complete
        write_unreadable(part_file(out, bad[0][0], "unreadable"), bad)
    good = [(id, digest) for id, digest, error in rows if not error]
    values = [b.values for b in batches if b.values is not None]
    vectors = np.concatenate(values) if values else np.empty((0, d), np.float32)
    columns = {
        "id": pa.array([id for id, _ in good], pa.string()),
        "digest": pa.array([digest for _, digest in good], pa.binary()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), d),
    }
    write_table(pa.table(columns), part_file(out, rows[0][0]))
    return len(rows)


def write_unreadable(file: Path, bad: list[tuple[str, str]]) -> None:
    "Ids and reasons."
    columns = {"id": [id for id, _ in bad], "error": [error for _, error in bad]}
    write_table(pa.table(columns, schema=pa.schema({"id": pa.string(), "error": pa.string()})), file)


def ids_in(folder: Path) -> Iterator[str]:
    "The ids in the parts of a folder."
    for file in folder.glob("part-*.parquet"):
        yield from pq.read_table(file, columns=["id"]).column(0).to_pylist()


def _rows_in(folder: Path) -> int:
    return sum(pq.read_metadata(file).num_rows for file in folder.glob("part-*.parquet"))


WORK = ("read", "decode", "see", "write")


def _row(**known) -> dict[str, list]:
    nothing = {"images": 0, "bytes": 0, "finished": ""} | dict.fromkeys(WORK, 0.0)
    return {key: [value] for key, value in (nothing | known).items()}
