"""Vectors that were computed once, by the content of the image and a fingerprint of what looked. Knows no model."""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
from platformdirs import user_cache_path

from ..dataset.cleaned import content_digest

log = logging.getLogger(__name__)

_SCHEMA = """
create table if not exists files (path blob primary key, bytes int, mtime_ns int, digest blob);
create table if not exists vectors (
    fingerprint blob, digest blob, crc int, vector blob, unique (fingerprint, digest) on conflict replace);
"""
CHECKS = b"checks"  # begins the fingerprint of what is kept of pairs in place of images
_CHUNK = 500  # SQLite binds at most 999 values in older versions


def default_folder() -> Path:
    "The user's cache folder for imgclean."
    return user_cache_path("imgclean", appauthor=False)


class Cache:
    """Vectors in one SQLite file, found again after a file is renamed, not after it has changed.

    Each batch is a transaction, so a process that is killed loses one batch at most. Damage is found by SQLite or by a
    checksum of each vector, said in the log, and computed anew. What cannot be written is not cached; nothing fails.
    """

    def __init__(self, folder: str | os.PathLike | None = None):  # default: `default_folder()`
        self.path = Path(folder or default_folder()) / "embeddings.sqlite"

    @classmethod
    def of(cls, cache: bool | str | os.PathLike) -> Cache | None:
        "What a `cache=` argument means: the user's for True, none for False, else the one in that folder."
        return cls(None if cache is True else cache) if cache else None

    def digests(self, paths: Sequence[Path]) -> list[bytes | None]:
        "Digest of the content of each file, `None` where it cannot be read; hashes only new or touched files."
        stats = [_stat(p) for p in paths]
        names = [os.fsencode(os.path.abspath(p)) for p in paths]

        def known(db: sqlite3.Connection) -> dict:
            return {
                name: (size, mtime, digest)
                for some in _chunks(names)
                for name, size, mtime, digest in db.execute(
                    f"select path, bytes, mtime_ns, digest from files where path in ({_marks(some)})", some
                )
            }

        old = self._try(known, {})
        digests, new = [], []
        for path, name, stat in zip(paths, names, stats, strict=True):
            was = old.get(name)
            if stat and was and was[:2] == stat:
                digests.append(was[2])
                continue
            digest = digest_of(path) if stat else None
            digests.append(digest)
            if digest:
                new.append((name, *stat, digest))
        if new:
            self._try(
                lambda db: db.executemany("insert or replace into files values (?, ?, ?, ?)", new), None
            )
        return digests

    def count(self, fingerprint: bytes, digests: Iterable[bytes]) -> int:
        "How many of `digests` have a vector here."
        return sum(
            self._try(lambda db: db.execute(query, [fingerprint, *some]).fetchone()[0], 0)  # noqa: B023
            for some in _chunks(list(digests))
            for query in [
                f"select count(*) from vectors where fingerprint = ? and digest in ({_marks(some)})"
            ]
        )

    def get(
        self, fingerprint: bytes, digests: Iterable[bytes], d: int, dtype: np.dtype
    ) -> Iterator[tuple[bytes, np.ndarray]]:  # (digest, (d,) of `dtype`)
        "Those of `digests` whose vector is here, each with its vector; damaged ones are left out and said."
        damaged = 0
        for some in _chunks(sorted(set(digests))):
            query = f"select digest, crc, vector from vectors where fingerprint = ? and digest in ({_marks(some)})"
            for digest, crc, data in self._try(lambda db: list(db.execute(query, [fingerprint, *some])), []):  # noqa: B023
                if len(data) == dtype.itemsize * d and zlib.crc32(data) == crc:
                    yield digest, np.frombuffer(data, dtype=dtype.newbyteorder("<"))
                else:
                    damaged += 1
        if damaged:
            log.warning("%d damaged vectors in the cache %s are computed anew", damaged, self.path)

    def put(
        self, fingerprint: bytes, digests: Sequence[bytes], vectors: np.ndarray
    ) -> None:  # (n, d) float32 or float16
        "Keep `vectors`; on the disk when this returns."
        rows = [
            (fingerprint, digest, zlib.crc32(data), data)
            for digest, row in zip(digests, vectors, strict=True)
            for data in [row.astype(row.dtype.newbyteorder("<")).tobytes()]
        ]
        self._try(lambda db: db.executemany("insert into vectors values (?, ?, ?, ?)", rows), None)

    def forget(self, paths: Iterable[Path]) -> None:
        "Forget where these files were, such as temporary ones; what was computed of their content stays."
        names = [(os.fsencode(os.path.abspath(p)),) for p in paths]
        self._try(lambda db: db.executemany("delete from files where path = ?", names), None)

    def info(self) -> dict:
        "Path, bytes on disk, number of vectors, of the models that made them, and of checks of pairs."

        def count(db: sqlite3.Connection) -> list:
            query = "select count(*), count(distinct fingerprint) from vectors where (substr(fingerprint, 1, ?) = ?) = ?"
            return [db.execute(query, (len(CHECKS), CHECKS, kind)).fetchone() for kind in (0, 1)]

        (vectors, models), (checks, _) = (
            self._try(count, [(0, 0)] * 2) if self.path.exists() else [(0, 0)] * 2
        )
        n_bytes = sum(stat[0] for p in self._files() if (stat := _stat(p)))  # SQLite removes its own at times
        return {
            "path": str(self.path),
            "bytes": n_bytes,
            "vectors": vectors,
            "models": models,
            "checks": checks,
        }

    def clear(self) -> None:
        "Remove the cache's own files."
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return [p for end in ("", "-wal", "-shm", "-journal") if (p := Path(f"{self.path}{end}")).exists()]

    def _try(self, work: Callable[[sqlite3.Connection], Any], otherwise: Any) -> Any:
        "The result of `work` in a transaction; `otherwise` where the cache cannot be used."
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=60)) as db, db:
                db.execute("pragma journal_mode = wal")
                db.execute("pragma synchronous = normal")
                db.executescript(_SCHEMA)
                return work(db)
        except sqlite3.OperationalError as err:  # locked, full, read-only: not the content's fault
            log.warning("the cache %s cannot be used now (%s); going on without it", self.path, err)
        except sqlite3.DatabaseError as err:
            log.warning("the cache %s is damaged (%s) and begun anew", self.path, err)
            self.clear()
        except OSError as err:
            log.warning("the cache %s cannot be used (%s); going on without it", self.path, err.strerror)
        return otherwise


def _chunks(values: Sequence) -> Iterator[Sequence]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def _marks(values: Sequence) -> str:
    return ",".join("?" * len(values))


def _stat(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
        return stat.st_size, stat.st_mtime_ns
    except OSError:
        return None


def digest_of(path: Path) -> bytes | None:  # 16 bytes
    "Digest of the content of a file; None where it cannot be read."
    try:
        return content_digest(path)
    except OSError:
        return None


def code_of(cls: type) -> str:
    "What the methods that `cls` does not have from torch's own `Module` do: another text for an edited `forward`."
    own = [c for c in cls.__mro__ if c.__module__ not in ("builtins", "torch.nn.modules.module")]
    methods = {name: inspect.unwrap(f) for c in reversed(own) for name, f in vars(c).items() if callable(f)}
    return repr({name: _instructions(f.__code__) for name, f in methods.items() if hasattr(f, "__code__")})


def _instructions(code: CodeType) -> tuple:
    "Instructions, names and constants, without what differs from process to process."
    constants = [
        _instructions(c)
        if isinstance(c, CodeType)
        else sorted(map(repr, c))
        if isinstance(c, frozenset)
        else c
        for c in code.co_consts
    ]
    return code.co_code, code.co_names, repr(constants)


def fingerprint_of(parts: Iterable[Any]) -> bytes:  # 16 bytes
    "Digest of arrays, and of the text of anything else."
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype} {part.shape}".encode())
            digest.update(np.ascontiguousarray(part).reshape(-1))
        else:
            digest.update(f"{part}\0".encode())
    return digest.digest()
