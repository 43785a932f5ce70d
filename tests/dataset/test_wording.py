import pytest

from imgclean.dataset.wording import counted, human_bytes


@pytest.mark.parametrize(("n", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files")])
def test_counted(n, text):
    assert counted(n, "file") == text


@pytest.mark.parametrize(("n", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (25_400, "25 kB"), (3_400_000, "3.4 MB"),
                                         (2 * 10**13, "20000 GB")])  # fmt: skip
def test_human_bytes(n, text):
    assert human_bytes(n) == text
