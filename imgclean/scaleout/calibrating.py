"""The cut that has the wanted precision, learnt from edited copies of a sample of the images, as on one machine."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..cascade import NEIGHBOURS, PLANTED, UNCALIBRATED
from ..dataset.edits import plant
from ..dataset.items import Items
from ..find.calibrate import Calibration, Estimate, calibrate
from ..find.pairs import Pairs
from ..find.similarity import cosines, nearest
from ..find.verify import verify_pairs
from ..find.whitening import Whitening
from ..planted import Planted
from .candidates import sampled_whitening
from .images import Images
from .tables import Numbering, begin, fingerprint_of, finish, matrix
from .tasks import parts_dataset, parts_in, take_rows

log = logging.getLogger(__name__)
CANDIDATES = 1_000_000  # of which the likelihoods are weighed; of more a seeded sample

Look = Callable[[Items], tuple[np.ndarray, Items]]  # embeds images alike, and says which it could read


def learn_cut(
    numbering: Numbering,
    out: Path,  # gets the folder `calibration`
    candidates: Pairs,  # by probability, each of the images' own pairs that had a second look
    images: Images,
    look: Look,
    *,
    min_precision: float,
    seed: int = 0,
) -> dict | None:
    """What `calibrate` learns from copies planted among all images, each compared with all of them, as JSON can hold it.

    None where there are too few images. Of more than a million candidates a seeded sample is weighed.
    """
    folder = out / "calibration"
    settings = {
        "rows": numbering.fingerprint, "pairs": fingerprint_of(candidates), "min_precision": min_precision,
        "seed": seed,
    }  # fmt: skip
    done = begin(folder, settings)
    if done is None:
        try:
            learnt = as_json(_learnt(numbering, candidates, images, look, min_precision, seed))
        except ValueError as err:
            log.warning("the cut is not learnt but %s: %s", UNCALIBRATED, err)
            learnt = None
        done = finish(folder, {"calibration": learnt})
    return done["calibration"]


def _learnt(
    numbering: Numbering, candidates: Pairs, images: Images, look: Look, min_precision: float, seed: int
) -> Calibration:
    rng = np.random.default_rng(seed)
    n = min(len(numbering), 2 * PLANTED)  # some cannot be edited
    rows = np.sort(rng.choice(len(numbering), n, replace=False))
    ids = numbering.ids.take(pa.array(rows)).to_pylist()
    with images.items(ids) as items, tempfile.TemporaryDirectory(prefix="imgclean-") as folder:
        copies = plant(items, min(PLANTED, n), folder, seed)
        vectors, readable = look(copies.items)
        if len(readable) < len(copies.items):
            raise ValueError("the transforms fail on edited copies, so nothing can be learnt from them")
        own = Planted(len(numbering), copies.items, vectors, rows[copies.sources], copies.edits)
        pairs = _pairs_of(own, numbering, seed)
        probability = _looked_at(own, pairs, numbering, images)
    same, other = own.scores(pairs, probability, candidates)
    some = candidates.score.astype(np.float64)
    if len(some) > CANDIDATES:
        some = rng.choice(some, CANDIDATES, replace=False)
    return calibrate(some, same, other, min_precision=min_precision, edits=own.edits, seed=seed)


def _pairs_of(copies: Planted, numbering: Numbering, seed: int) -> Pairs:
    "Each copy with those of all images that are nearest to it; the score is the cosine."
    if not len(copies.items):
        return Pairs.of([], [], [])
    whitening = sampled_whitening(numbering, seed)
    vectors = np.ascontiguousarray(copies.vectors, dtype=np.float32)
    pairs = set()
    for name in ("plain", "whitened") if whitening.dims else ("plain",):
        found = _nearest(vectors, numbering, whitening if name == "whitened" else None)
        pairs.update(zip(*(column.tolist() for column in found), strict=True))
    copy, row = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T
    there, place = np.unique(row, return_inverse=True)
    return Pairs.of(
        copy + copies.n, row, cosines(vectors, copy, place, others=take_rows(numbering, there))
    )  # fmt: skip


def _nearest(
    copies: np.ndarray, numbering: Numbering, whitening: Whitening | None
) -> tuple[np.ndarray, np.ndarray]:  # copies and rows, one of each for each pair
    "Each copy with the nearest of all rows, file by file."
    k = min(NEIGHBOURS, len(numbering))
    own = copies if whitening is None else whitening(copies)

    def of_parts(block: pa.Table) -> Iterator[pa.Table]:
        for file, numbers in parts_in(block):
            x = matrix(pq.read_table(file, columns=["vector"])["vector"])
            index, score = nearest(own, min(k, len(x)), others=x if whitening is None else whitening(x))
            copy, place = np.nonzero(index >= 0)
            near = numbers[index[copy, place]]
            yield pa.table({"copy": copy, "row": near, "score": score[copy, place]})

    files = parts_dataset(numbering.parts)
    found = files.map_batches(of_parts, batch_format="pyarrow", batch_size=None)
    best = pa.table(
        {
            "copy": pa.array([], pa.int64()),
            "row": pa.array([], pa.int64()),
            "score": pa.array([], pa.float32()),
        }
    )
    for table in found.iter_batches(batch_format="pyarrow", batch_size=None):
        best = pa.concat_tables([best, table.select(best.column_names)])
        best = best.sort_by([("copy", "ascending"), ("score", "descending"), ("row", "ascending")])
        copy = best["copy"].to_numpy()
        best = best.filter(pa.array(np.arange(len(copy)) - np.searchsorted(copy, copy) < k))
    return best["copy"].to_numpy(), best["row"].to_numpy()


def _looked_at(copies: Planted, pairs: Pairs, numbering: Numbering, images: Images) -> np.ndarray:
    "Probability of each pair of a copy and an image."
    there, place = np.unique(pairs.j, return_inverse=True)
    with images.items(numbering.ids.take(pa.array(there)).to_pylist()) as items:
        local = Planted(len(items), copies.items, copies.vectors, copies.sources, copies.edits)
        some = Pairs(pairs.i - copies.n + len(items), place, pairs.score)
        checks = verify_pairs(local.among(items), some, progress=False)
    return np.array([check.probability for check in checks])


def as_json(learnt: Calibration) -> dict:
    "What the report keeps of a calibration; all but the probabilities of the candidates."
    said = {"cut": learnt.cut, "min_precision": learnt.min_precision}
    lists = {name: list(getattr(learnt, name)) for name in ("precision", "recall", "edits")}
    return said | lists | {"same": learnt.same.tolist(), "other": learnt.other.tolist()}


def from_json(said: dict) -> Calibration:
    "The calibration of a report."
    return Calibration(
        said["cut"], said["min_precision"], Estimate(*said["precision"]), Estimate(*said["recall"]),
        tuple(said["edits"]), np.empty(0), np.array(said["same"]), np.array(said["other"]),
    )  # fmt: skip
