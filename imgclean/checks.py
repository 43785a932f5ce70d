"""Second looks that were taken once are kept beside the vectors, so that a run which was stopped goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence

import numpy as np

from .dataset.items import Items
from .features.cache import CHECKS, Cache, fingerprint_of
from .find import tiny
from .find.pairs import Pairs
from .find.verify import BIAS, NOTHING, WEIGHTS, Album, Check, verify_pairs

# Another number forgets all checks: count up where a change of `verify_pairs` changes what it says.
SCHEME = 4
ROOM = 512  # bytes of a check
ABOUT = CHECKS + fingerprint_of([SCHEME, WEIGHTS, BIAS, tiny.WEIGHTS, tiny.BIAS])


def remembered_checks(
    items: Items,
    pairs: Pairs,  # of `items`; the score is the cosine of their embeddings
    *,
    cache: bool | str | os.PathLike = False,  # True: the user's cache folder; or a folder
    num_workers: int | None = None,
    progress: bool = True,
    album: Album | None = None,  # as in `verify_pairs`
) -> list[Check]:
    """What `verify_pairs` returns, computed for those pairs alone that are not in the `cache`.

    A pair is known by the content of both files and their cosine. Each batch is on the disk before the next begins.
    """
    store = Cache.of(cache)
    if store is None:
        return verify_pairs(items, pairs, num_workers=num_workers, progress=progress, album=album)
    keys = _keys(store, items, pairs)
    known = {
        digest: _check(row) for digest, row in store.get(ABOUT, filter(None, keys), ROOM, np.dtype("u1"))
    }
    todo = np.flatnonzero([key not in known for key in keys])

    def keep(places: np.ndarray, checks: list[Check]) -> None:
        # A file that could not be read for once may be read the next time.
        rows = {keys[todo[k]]: _row(c) for k, c in zip(places, checks, strict=True) if c != NOTHING}
        rows = {key: row for key, row in rows.items() if key and row is not None}
        if rows:
            store.put(ABOUT, list(rows), np.stack(list(rows.values())))

    some = Pairs(pairs.i[todo], pairs.j[todo], pairs.score[todo])
    new = verify_pairs(items, some, num_workers=num_workers, progress=progress, done=keep, album=album)
    fresh = dict(zip(todo.tolist(), new, strict=True))
    return [fresh[k] if k in fresh else known[key] for k, key in enumerate(keys)]


def _keys(store: Cache, items: Items, pairs: Pairs) -> list[bytes | None]:  # None: a file that cannot be read
    named = sorted({*pairs.i.tolist(), *pairs.j.tolist()})
    digest = dict(zip(named, store.digests([items.paths[k] for k in named]), strict=True))
    # Rounded, since the last bits of a cosine may differ from run to run.
    cosines = np.round(pairs.score * 1e4).astype("<i4")
    return [
        _key(digest[i], digest[j], cosine.tobytes())
        for i, j, cosine in zip(pairs.i.tolist(), pairs.j.tolist(), cosines, strict=True)
    ]


def _key(*parts: bytes | None) -> bytes | None:
    return None if None in parts else hashlib.blake2b(b"".join(parts), digest_size=16).digest()


def _row(check: Check) -> np.ndarray | None:  # (ROOM,) uint8; None: too long
    text = json.dumps(check).encode()
    return np.frombuffer(text.ljust(ROOM), dtype=np.uint8) if len(text) <= ROOM else None


def _check(row: Sequence[int]) -> Check:
    probability, grade, what, transform, mirrored = json.loads(bytes(row))
    return Check(probability, grade, what, transform and tuple(map(tuple, transform)), mirrored)
