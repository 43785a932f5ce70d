"""Numbers of things and of bytes, as people write them."""

from __future__ import annotations


def counted(n: int, thing: str) -> str:
    "`n` things as people write it: 1 file, 2 files."
    return f"{n} {thing}" + ("" if n == 1 else "s")


def human_bytes(n: int) -> str:
    "`n` bytes as people write it: 980 B, 12 kB, 3.4 MB."
    if n < 1000:
        return f"{n} B"
    power = min(len(str(n)) - 1, 9) // 3
    value = n / 1000**power
    return f"{value:.0f} {' kMG'[power]}B" if value >= 10 else f"{value:.1f} {' kMG'[power]}B"
