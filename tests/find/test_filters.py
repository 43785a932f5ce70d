from unittest.mock import patch

import numpy as np
import pytest
import torch
from brute import vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from imgclean.find import filters
from imgclean.find.tiles import Rows

FORCED = [name for name in filters.FILTERS if name != "none"]


def products(by, rows):
    sketch = by.sketch(rows)
    z = sketch.block(0, len(rows))
    return (z @ z.T).double()


@pytest.mark.parametrize("name", FORCED)
@settings(deadline=None, max_examples=40)
@given(x=vectors(), width=st.sampled_from([2, 5, 300]))
def test_a_filter_never_says_less_than_the_cosine_minus_its_margin(name, x, width):
    rows = Rows(x)
    if not len(rows):
        return
    unit = rows.take(slice(None)).double()
    by = filters.make(name, rows, width=width)
    assert (products(by, rows) >= unit @ unit.T - by.margin).all()


def test_the_residual_is_needed_and_enough():
    "Two equal rows that lie wholly outside the axes."
    x = torch.zeros(4, 8)
    x[:2, 0], x[2:, 7] = 1, 1
    axes = torch.eye(8, dtype=torch.float64)[:, :3]
    z = filters.project(x, axes)
    np.testing.assert_allclose(z @ z.T, x @ x.T)


def test_axes_are_orthonormal_and_the_strongest_come_first():
    rng = np.random.default_rng(0)
    x = torch.from_numpy((rng.normal(size=(500, 60)) * 0.8 ** np.arange(60) + 0.5).astype(np.float32))
    axes = filters.principal_axes(x, 16)
    np.testing.assert_allclose(axes.T @ axes, np.eye(16), atol=1e-12)
    kept = (x.double() @ axes).square().sum(0)
    best = torch.linalg.svdvals(x.double()).square()
    assert (
        (kept.diff() < 0).all()
        and kept[:4].sum() > 0.999 * best[:4].sum()
        and kept.sum() > 0.99 * best[:16].sum()
    )


def test_the_filter_that_is_cheapest_here_is_chosen():
    "Of 300 numbers, 20 matter; where bfloat16 is slow, a narrow projection is the best there is."
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(3000, 20)) @ rng.normal(size=(20, 300)), 0).astype(np.float32)
    rows, costs = Rows(x), filters.Costs(plain=1.0, recheck=1e-6)
    times = {torch.float32: 0.2, torch.bfloat16: 0.9}
    with (
        patch.object(filters, "_bf16_is_fast", lambda device: True),
        patch.object(
            filters, "product_and_scan", lambda a, b: lambda: times[a.dtype] * (0.1 + a.shape[1] / 300)
        ),
        patch.object(filters, "timed", lambda work, device: work()),
    ):
        by = filters.choose(rows, None, 0.95, 1024, costs)
        assert by.name == "pca" and by.axes.shape[1] + 1 in filters.WIDTHS
        times[torch.bfloat16] = 0.01
        assert "bf16" in filters.choose(rows, None, 0.95, 1024, costs).name
        assert filters.choose(rows, None, 0.1, 1024, costs) is None  # nearly every pair would pass


def test_unknown_filters_are_refused():
    with pytest.raises(ValueError, match="'auto' or one of 'none', 'bf16'"):
        filters.make("int4", Rows(np.ones((2, 2))))


def test_axes_are_orthonormal_also_where_no_eigenvalues_are_found(monkeypatch):
    "LAPACK gives up, now and then, on a few rows that are all alike."

    def give_up(_):
        raise torch.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(torch.linalg, "eigh", give_up)
    axes = filters.principal_axes(torch.randn(1, 17), 8)
    assert torch.allclose(axes.T @ axes, torch.eye(8, dtype=torch.float64), atol=1e-9)
