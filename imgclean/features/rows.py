"""An array of vectors that grows on the disk while images are looked at, and is memory-mapped afterwards."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

IN_MEMORY = 256 << 20  # bytes: smaller arrays are read into memory at the end


class Rows:
    """An (n, d) array in a file that has no name and is gone with the process.

    Rows are written, not mapped, while it is filled: mapped pages would count as memory of the process.
    """

    def __init__(self, n: int, d: int, dtype: np.dtype | str, folder: Path | None = None):
        self.shape, self.dtype = (n, d), np.dtype(dtype)
        self._row_bytes = d * self.dtype.itemsize
        self._file = _nameless_file(folder)
        self._file.truncate(n * self._row_bytes)

    def __setitem__(self, k: int, row: np.ndarray) -> None:
        self._file.seek(k * self._row_bytes)
        data = memoryview(np.ascontiguousarray(row, dtype=self.dtype)).cast("B")
        while data:  # an unbuffered file may take less than it is given, and raises where the disk is full
            data = data[self._file.write(data) :]

    def __getitem__(self, k: int) -> np.ndarray:
        self._file.seek(k * self._row_bytes)
        return np.frombuffer(self._file.read(self._row_bytes), dtype=self.dtype)

    def put(self, ks: Sequence[int], rows: np.ndarray) -> None:
        "Write `rows` to the places `ks`, runs of neighbours at once."
        start = 0
        for end in range(1, len(ks) + 1):
            if end == len(ks) or ks[end] != ks[end - 1] + 1:
                self[ks[start]] = rows[start:end]
                start = end

    def array(self, without: Collection[int] = ()) -> np.ndarray:
        "The rows that are not in `without`, in order: an array in memory, a `np.memmap` where that is large."
        n = self.shape[0]
        if without:
            kept = [k for k in range(n) if k not in without]
            for place, k in enumerate(kept):
                if place != k:
                    self[place] = self[k]
            n = len(kept)
            self._file.truncate(n * self._row_bytes)
        shape = (n, self.shape[1])
        if n * self._row_bytes > IN_MEMORY:
            mapped = np.memmap(self._file, self.dtype, "r+", shape=shape)
            self._file.close()  # the mapping holds the file
            return mapped
        out = np.empty(shape, dtype=self.dtype)
        self._file.seek(0)
        self._file.readinto(out.reshape(-1).view(np.uint8))
        self._file.close()
        return out


def _nameless_file(folder: Path | None):
    "A file in `folder`, else in the system's place for temporary files, which may be memory on some Linux systems."
    try:
        if folder:
            os.makedirs(folder, exist_ok=True)
            return tempfile.TemporaryFile(dir=folder, buffering=0)
    except OSError:
        pass
    return tempfile.TemporaryFile(buffering=0)
