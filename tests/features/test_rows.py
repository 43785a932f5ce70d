import numpy as np
import pytest

from imgclean.features import rows
from imgclean.features.rows import Rows


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("limit", [1 << 20, 0])
def test_rows_come_back_in_order_without_those_left_out(monkeypatch, tmp_path, dtype, limit):
    monkeypatch.setattr(rows, "IN_MEMORY", limit)
    x = np.random.default_rng(0).random((20, 7)).astype(dtype)
    filled = Rows(20, 7, dtype, tmp_path / "new")
    order = np.random.default_rng(1).permutation(20).tolist()
    for ks in (order[:5], sorted(order[5:12]), [], order[12:19]):
        filled.put(ks, x[ks])
    filled[order[19]] = x[order[19]]
    np.testing.assert_array_equal(filled[3], x[3])
    out = filled.array(without={0, 7, 8, 19})
    np.testing.assert_array_equal(out, x[[k for k in range(20) if k not in (0, 7, 8, 19)]])
    assert isinstance(out, np.memmap) == (limit == 0) and out.dtype == dtype and out.flags.writeable
    assert not list(tmp_path.rglob("*.*"))  # the file has no name


def test_nothing_left_and_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("where the folder should be")
    filled = Rows(2, 3, "float32", tmp_path / "file")
    assert filled.array(without=[0, 1]).shape == (0, 3)


def test_large_results_are_no_memory_of_the_process():
    "Written 200 MB, held next to nothing: only what is mapped and touched would count."
    import sys

    if sys.platform != "linux":
        pytest.skip("peak memory is counted in another way here")
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    filled, block = Rows(50_000, 1024, "float32"), np.ones((500, 1024), dtype=np.float32)
    for start in range(0, 50_000, 500):
        filled.put(range(start, start + 500), block)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024  # KB
