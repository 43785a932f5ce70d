import json

import numpy as np
import pytest
from typer.testing import CliRunner

from imgclean.benchmark.__main__ import app
from imgclean.benchmark.search import all_products, cost_curves, extra_memory, measure, products_of, synthetic

run = CliRunner()


def test_search_prints_json_and_draws_the_curve(tmp_path):
    sizes = ["--n", 900, "--n", 500, "--d", 100]
    args = ["search", *sizes, "--folder", tmp_path, "--plot", tmp_path / "cost.png"]
    found = json.loads(run.invoke(app, list(map(str, args))).stdout)
    for row in found["rows"]:
        assert set(row["ways"]) == {"none", "pca", "auto"}
        assert all(
            way["recall"] == 1 and way["wrong"] == 0 and way["pairs"] > 0 for way in row["ways"].values()
        )
    assert set(found["cost_curve"]["exponents"]) == {"none", "pca", "auto", "torch.mm"}
    assert (tmp_path / "cost.png").stat().st_size > 1000 and found["mapped"]


def test_a_sample_of_rows_is_a_reference_too():
    x = synthetic(900, 100)
    known = np.arange(0, 900, 3)
    every = all_products(x, 0.9)[0]
    assert products_of(x, known, 0.9) == {pair for pair in every if {*pair} & {*known.tolist()}}
    way = measure(x, 0.9, ["pca"], False, sample=300)["ways"]["pca"]
    assert way["recall"] == 1 and way["wrong"] == 0 and 0 < way["true"] < way["pairs"]


def test_the_vectors_are_like_a_networks():
    x = synthetic(2000, 400)
    sims = (x @ x.T)[np.tril_indices(2000, -1)]
    assert x.dtype == np.float32 and np.allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)
    assert 0.2 < np.median(sims) < 0.6 and 20 <= (sims > 0.87).sum() < 200
    np.testing.assert_array_equal(x, synthetic(2000, 400))


def test_the_exponent_of_a_known_curve():
    rows = [{"n": n, "ways": {"auto": {"cpu_seconds": 3e-8 * n**1.5}}} for n in (1000, 2000, 8000)]
    assert cost_curves(rows, None)["exponents"] == {"auto": 1.5}


@pytest.mark.parametrize("mb", [100])
def test_extra_memory_sees_what_is_taken(mb):
    assert 0.8 * mb < extra_memory(lambda: np.ones(mb * 10**6 // 8).sum()) / 1e6 < 1.6 * mb
