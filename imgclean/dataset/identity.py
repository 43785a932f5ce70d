"""Which of today's images a name in a ledger means: by name, and by content where the file was moved or renamed."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Container, Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePosixPath

from .cleaned import content_digest
from .items import Items, relative_names


class Identities:
    "Names of the images of a dataset in its ledger, and back, also after files were moved, renamed or replaced"

    def __init__(
        self,
        items: Items,
        folder: Path,  # that names are relative to
    ):
        self.items, self._folder = items, folder
        self._known: dict[int, list] = {}  # item -> fingerprint when it was last hashed
        self._claims: dict[int, str] = {}  # item -> the name in the ledger that means it
        self._moved: dict[str, dict[str, int]] = {}  # digest -> name -> where that file is now
        self._by_size: dict[int, list[int]] | None = None
        self._by_digest: dict[int, dict[str, list[int]]] = {}  # of the files of one size

    @cached_property
    def names(self) -> list[str]:
        "Of each item, relative to the folder."
        return _unique(relative_names(self.items.paths, self._folder))

    @cached_property
    def _at(self) -> dict[str, int]:
        return {name: k for k, name in enumerate(self.names)}

    def fingerprint(self, k: int) -> list:  # [bytes, mtime_ns, blake2b hex digest]
        "What tells whether item `k` is still the same file; hashes it only if size or time are new. Raises `OSError`."
        path = self.items.paths[k]
        stat = path.stat()
        now = [stat.st_size, stat.st_mtime_ns]
        if self._known.get(k, [])[:2] != now:
            self._known[k] = [*now, content_digest(path).hex()]
        return self._known[k]

    def is_same(
        self,
        k: int,
        was: list,
        read: bool = False,  # the file in any case: an equal size and time prove nothing
    ) -> bool:
        "Whether item `k` holds the content that had the fingerprint `was`."
        try:
            if read:
                return content_digest(self.items.paths[k]).hex() == was[2]
            stat = self.items.paths[k].stat()
            if [stat.st_size, stat.st_mtime_ns] == list(was[:2]):
                return True
            return stat.st_size == was[0] and self.fingerprint(k)[2] == was[2]
        except OSError:
            return False

    def files(self, ks: Iterable[int]) -> dict[str, list]:
        """Name -> fingerprint of items `ks` and of all with the same bytes as one of them; without those that are gone.

        So a ledger knows which copies there were, and takes none of them for another one that was moved.
        """
        found = {}
        for k in ks:
            try:
                size, _, digest = found[self.names[k]] = self.fingerprint(k)
            except OSError:
                continue
            for twin in self._of_size(size).get(digest, ()):
                with suppress(OSError):
                    if self.fingerprint(twin)[2] == digest:  # still
                        found[self.names[twin]] = self.fingerprint(twin)
        return found

    def place(
        self,
        files: dict[str, list],  # name -> fingerprint, as `files` returned them when a line was written
        moved: bool = True,  # whether to look for content under other names
    ) -> dict[str, int]:
        """Name -> item that it means now, without those whose content is nowhere, or could be any of several copies.

        A file that is gone since the items were listed is known by its name.
        """
        placed = {}
        for name, was in files.items():
            k = self._at.get(name)
            if k is not None and self.is_same(k, was):
                placed[name] = k
                self._claims[k] = name  # no file that was moved later is taken for this one
        self._forget({was[2] for was in files.values()}, files)
        missing = Counter(was[2] for name, was in files.items() if name not in placed)
        for name, was in files.items():
            if name in placed:
                continue
            k = self._at.get(name)
            if k is None or os.path.lexists(self.items.paths[k]):
                k = self._moved_to(name, was, missing[was[2]]) if moved else None
            if k is not None:
                placed[name] = k
                missing[was[2]] -= 1
        return placed

    def by_name(self, name: str) -> int | None:
        "The item of that name, whatever it holds."
        return self._at.get(name)

    def _moved_to(
        self,
        name: str,
        was: list,
        missing: int,  # names with that content that mean no item yet
    ) -> int | None:
        "An item with that content which no other name of the ledger means, with the name most like the old one."
        size, _, digest = was
        moved = self._moved.setdefault(digest, {})
        if name in moved:
            return moved[name]
        alike = [k for k in self._of_size(size).get(digest, ()) if k not in self._claims]
        if len(alike) < missing:  # one copy was removed: is it the one that was marked?
            return None
        best = max(alike, key=lambda k: (_common_ending(name, self.names[k]), -k))
        moved[name] = best
        self._claims[best] = name
        return best

    def _forget(self, digests: set[str], there: Container[str]) -> None:
        "Names that were not `there` when a later line was written, had been moved before: that line may mean their file."
        for moved in (self._moved.get(digest, {}) for digest in digests):
            for name in [name for name in moved if name not in there]:
                k = moved.pop(name)
                if self._claims.get(k) == name:
                    del self._claims[k]

    def _of_size(self, size: int) -> dict[str, list[int]]:  # digest -> items
        "The items whose files have `size` bytes, by content."
        if self._by_size is None:
            self._by_size = defaultdict(list)
            for k in range(len(self.items)):
                self._by_size[self.items.n_bytes(k)].append(k)
        if size not in self._by_digest:
            self._by_digest[size] = defaultdict(list)
            for k in self._by_size.get(size, ()):
                with suppress(OSError):
                    self._by_digest[size][self.fingerprint(k)[2]].append(k)
        return self._by_digest[size]


def _common_ending(a: str, b: str) -> int:
    "Number of parts, from the last, that two names share."
    n = 0
    for x, y in zip(reversed(PurePosixPath(a).parts), reversed(PurePosixPath(b).parts), strict=False):
        if x != y:
            break
        n += 1
    return n


def _unique(names: list[str]) -> list[str]:
    "The names, with '#2', '#3', … behind one that came before: a csv may list a file twice, and drop it once."
    count = dict.fromkeys(names, 0)
    unique = []
    for name in names:
        count[name] += 1
        unique.append(name if count[name] == 1 else f"{name}#{count[name]}")
    return unique
