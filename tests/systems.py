"""Marks for tests of what only some systems offer; each is skipped elsewhere with its reason."""

import os
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
# Ray needs fifteen seconds of a free core to start, and gives up after that.
RAY_ASKED = bool(os.environ.get("IMGCLEAN_TEST_RAY"))
WHY_NO_RAY = "starts Ray, which wants the machine for itself; IMGCLEAN_TEST_RAY=1 runs it"
ray = pytest.mark.skipif(not RAY_ASKED, reason=WHY_NO_RAY)
