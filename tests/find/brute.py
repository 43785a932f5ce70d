"""The slow obvious answers that the fast searches are compared with."""

import numpy as np
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SURE = 2e-6  # cosines that differ by less may fall on either side of a threshold in float32


def cosines(a, b=None):
    "All cosines in float64; -inf for rows of zeros, which resemble nothing."
    a, b = (np.asarray(x, dtype=np.float64) for x in (a, a if b is None else b))
    norms = [np.linalg.norm(x, axis=1) for x in (a, b)]
    a, b = (x / np.where(n > 0, n, 1)[:, None] for x, n in zip((a, b), norms, strict=True))
    sims = a @ b.T
    sims[norms[0] == 0] = -np.inf
    sims[:, norms[1] == 0] = -np.inf
    return sims


def lower(sims):
    "The same with nothing on and above the diagonal."
    return np.where(np.tri(len(sims), k=-1, dtype=bool), sims, -np.inf)


def check_pairs(pairs, sims, least):
    "`pairs` are those of the (rows of i, rows of j) matrix `sims` that reach `least`, no more and no fewer."
    found = np.zeros(sims.shape, dtype=bool)
    found[pairs.i, pairs.j] = True
    assert found.sum() == len(pairs), "a pair is there twice"
    assert not (found & (sims < least - SURE)).any(), "a pair below the threshold"
    missed = ~found & (sims >= least) & np.isfinite(sims)
    assert not missed.any(), f"missed {np.argwhere(missed)[:3]} of {sims[missed][:3]}"
    np.testing.assert_allclose(pairs.score, sims[pairs.i, pairs.j], atol=SURE)
    assert list(pairs) == sorted(pairs, key=lambda p: (-p[2], p[0], p[1]))


def components(n, i, j):
    "For each item the lowest item that it is connected with."
    graph = coo_array((np.ones(len(i)), (i, j)), shape=(n, n))
    label = connected_components(graph, directed=False)[1]
    return np.array([np.flatnonzero(label == own)[0] for own in label])


@st.composite
def vectors(draw, max_rows=90, d=None):
    "Rows with structure, copies, scaled copies, near copies, ties, zeros, huge and tiny lengths."
    n, d = draw(st.integers(0, max_rows)), d or draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["relu", "normal", "few values", "sparse"]))
    x = rng.normal(0.2 if kind == "relu" else 0, 1, (n, d))
    if kind == "relu":
        x = np.maximum(x, 0)
    elif kind == "few values":
        x = rng.integers(-1, 2, (n, d)).astype(float)
    elif kind == "sparse":
        x *= rng.random((n, d)) < 0.2
    if n > 1:
        source, target = rng.integers(0, n, (2, draw(st.integers(0, n))))
        x[target] = x[source] * draw(st.sampled_from([1, 2.5]))
        x[target] += draw(st.sampled_from([0, 1e-3, 0.1])) * rng.normal(size=(len(target), d))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    scale = draw(st.sampled_from([1, 1e-3, 10] if dtype == np.float16 else [1, 1e-12, 1e12]))
    return (x * scale).astype(dtype)
