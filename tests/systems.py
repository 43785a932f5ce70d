"""Marks for tests of what only some systems offer; each is skipped elsewhere with its reason."""

import sys

import pytest

names_of_bytes = pytest.mark.skipif(
    sys.platform in ("win32", "darwin"), reason="names are Unicode on this system"
)
names_of_any_character = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows allows neither quotes nor control characters in names"
)
links = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows makes symbolic links for administrators alone"
)
