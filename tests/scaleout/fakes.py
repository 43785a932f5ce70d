"""Embeddings as the first stage leaves them, made on the spot."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def vectors(n: int, d: int = 24, copies: int = 0, seed: int = 0) -> np.ndarray:
    "Rows as of a network's last layer, some of them near copies of others."
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.normal(0.2, 1, (n, d)), 0).astype(np.float32)
    source, target = rng.integers(0, n, (2, copies))
    x[target] = x[source] + 0.05 * rng.normal(size=(copies, d)).astype(np.float32)
    return x


def write_embeddings(folder: Path, ids: list[str], x: np.ndarray, n_parts: int = 3, seed: int = 0) -> Path:
    "The rows in files, in an order in which workers might have ended."
    folder.mkdir(parents=True)
    order = np.random.default_rng(seed).permutation(len(x))
    for number, ks in enumerate(np.array_split(order, n_parts)):
        table = {
            "id": [ids[k] for k in ks],
            "digest": [hashlib.blake2b(x[k].tobytes(), digest_size=16).digest() for k in ks],
            "vector": pa.FixedSizeListArray.from_arrays(x[ks].ravel(), x.shape[1]),
        }
        pq.write_table(pa.table(table), folder / f"part-{number:03}.parquet")
    return folder


def names(n: int) -> list[str]:
    "Ids whose order is that of the rows."
    return [f"{k // 10:04}/{k:05}.png" for k in range(n)]


def files(folder: Path) -> dict[str, bytes]:
    "The content of every file below `folder` but for what tells times."
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".json"
    }
