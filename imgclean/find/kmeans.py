"""k-means over unit rows: centroids from a sample, kept in `centroids.json`, and what lies far from all of them."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from ..dataset.stored import read_json, refuse_mismatch, written_whole
from .join import full_precision
from .linkage import connected
from .similarity import similar_pairs
from .tiles import READ, Rows

SCHEMA = 1  # version of centroids.json
KIND = "centroids"
METRIC = "euclidean"  # between rows of length 1 and centroids, which are shorter
SAMPLE = 64  # rows for each centroid
N_ITER = 10
FAR = 0.99  # share of the sample that is nearer to its centroid than what is called far


class KMeans:
    """Centroids of the rows of an embedding matrix, each row first scaled to length 1, as scikit-learn finds them.

    After `fit`: `centroids` (k, d) float32, `inertia` (mean squared distance of the sample to its centroids),
    `far_distance`. `settings` says what made the embeddings (arch, layer, pool, fingerprint) and travels along.
    Source: "A scalable solution to detect duplicate images", mlearning.ai; k-means of scikit-learn.
    """

    def __init__(self, n_clusters: int | None = None, *, seed: int = 0, settings: Mapping | None = None):
        if n_clusters is not None and n_clusters < 1:
            raise ValueError(f"n_clusters is {n_clusters}; ask for at least one cluster")
        self.n_clusters, self.seed, self.settings = n_clusters, seed, dict(settings or {})
        self.centroids = np.empty((0, 0), dtype=np.float32)
        self.inertia = self.far_distance = math.nan

    def __repr__(self) -> str:
        n, d = self.centroids.shape
        return f"KMeans({n} centroids of {d})" if n else f"KMeans(n_clusters={self.n_clusters}, not fitted)"

    def fit(self, emb: np.ndarray) -> KMeans:  # (n, d) float; may be an np.memmap
        """Itself, with centroids from a seeded sample of 64 rows for each; by default √n of them.

        Rows of zeros are left out. Raises `ValueError` for NaN, infinity, and fewer rows than clusters.
        """
        rows = Rows(emb)
        if not len(rows):
            raise ValueError(
                f"there are {rows.n} embeddings, none of them other than zeros; give some to fit"
            )
        n_clusters = self.n_clusters or default_clusters(len(rows))
        if n_clusters > len(rows):
            raise ValueError(
                f"n_clusters is {n_clusters}, and there are {len(rows)} embeddings to fit; ask for fewer"
            )
        # Here, since every worker of a large run imports this file, and takes seconds for what it does not use.
        from sklearn import cluster
        from sklearn.exceptions import ConvergenceWarning

        sample = rows.sample(SAMPLE * n_clusters, self.seed).numpy()
        model = cluster.KMeans(n_clusters, init="random", n_init=1, max_iter=N_ITER, random_state=self.seed)
        with warnings.catch_warnings():  # fewer distinct rows than clusters: some centroids are equal
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(sample)
        self.centroids = model.cluster_centers_.astype(np.float32)
        distance = self.nearest(sample)[1][:, 0]
        self.inertia = float(np.mean(distance.astype(np.float64) ** 2))
        self.far_distance = float(np.quantile(distance, FAR))
        return self

    def predict(self, emb: np.ndarray) -> np.ndarray:  # (n,) int64
        "The nearest centroid of each row; -1 for rows of zeros."
        return self.nearest(emb)[0][:, 0]

    def nearest(self, emb: np.ndarray, n: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The `n` nearest centroids of each row, (rows, n) int64, and how far they are, (rows, n) float32.

        Nearest first; -1 and infinity for rows of zeros. Streams the rows; raises `ValueError` for NaN,
        infinity, and rows of another length than the centroids.
        """
        return self.nearest_of(Rows(emb), n)

    def nearest_of(self, rows: Rows, n: int) -> tuple[np.ndarray, np.ndarray]:
        "The same for rows whose lengths are known already."
        k, d = self._fitted().shape
        if rows.d != d:
            raise ValueError(
                f"the embeddings have {rows.d} numbers a row, the centroids {d}; use the model and layer of the centroids"
            )
        if not 1 <= n <= k:
            raise ValueError(f"n is {n}; ask for 1 to {k} of the {k} centroids")
        index = np.full((rows.n, n), -1)
        distance = np.full((rows.n, n), np.inf, dtype=np.float32)
        centroids = torch.from_numpy(self.centroids)
        half = (centroids.double().pow(2).sum(1) / 2).float()
        with full_precision():
            for which, x in _blocks(rows, max(k, d)):
                score, best = (x @ centroids.T - half).topk(n, 1)
                index[which] = best.numpy()
                distance[which] = (1 - 2 * score.double()).clamp_min(0).sqrt().float().numpy()
        return index, distance

    def far(self, emb: np.ndarray, max_distance: float | None = None) -> np.ndarray:  # (n,) bool
        """Which rows are further than `max_distance` from every centroid; rows of zeros are.

        Default: `far_distance`, which 99 % of the rows of the sample are within.
        """
        limit = self.far_distance if max_distance is None else max_distance
        if not limit >= 0:
            raise ValueError(f"max_distance is {limit}; give a distance from 0 to 2")
        return self.nearest(emb)[1][:, 0] > limit

    def extend(
        self, emb: np.ndarray, max_distance: float | None = None
    ) -> tuple[KMeans, np.ndarray]:  # (n,) int64 clusters
        """k-means with a new cluster for each group of rows far from every centroid, and the cluster of each row.

        Far rows belong together where they are within `max_distance` of each other, step by step; those that
        are alone are outliers, with the cluster -1. The old centroids keep their numbers.
        """
        label = self.predict(emb)
        far = np.flatnonzero(self.far(emb, max_distance))
        label[far] = -1
        limit = self.far_distance if max_distance is None else max_distance
        near = similar_pairs(np.asanyarray(emb)[far], min_similarity=max(-1.0, 1 - limit**2 / 2))
        centroids = [self.centroids]
        for group in connected(near):
            members = far[group]
            label[members] = len(self.centroids) + len(centroids) - 1
            unit = Rows(np.asanyarray(emb)[members]).take(slice(None)).numpy()
            centroids.append(unit.mean(0, dtype=np.float64, keepdims=True).astype(np.float32))
        more = KMeans(seed=self.seed, settings=self.settings)
        more.centroids = np.concatenate(centroids)
        more.n_clusters, more.inertia, more.far_distance = (
            len(more.centroids),
            self.inertia,
            self.far_distance,
        )
        return more, label

    def save(self, path: str | os.PathLike) -> None:
        "Write `centroids.json` (docs/indexes.md), whole or not at all; the centroids come back bit by bit."
        k, d = self._fitted().shape
        about = {
            "imgclean": KIND,
            "version": SCHEMA,
            "n_clusters": k,
            "d": d,
            "metric": METRIC,
            "normalised": True,
            "settings": self.settings,
            "seed": self.seed,
            "inertia": self.inertia,
            "far_distance": self.far_distance,
        }
        rows = [
            [float(f"{v:.9g}") for v in row] for row in self.centroids.tolist()
        ]  # 9 digits hold a float32
        with written_whole(path) as f:
            f.write(json.dumps(about, indent=1)[:-2].encode() + b',\n "centroids": [\n')
            f.write(b",\n".join(b"  " + json.dumps(row).encode() for row in rows) + b"\n ]\n}\n")

    @classmethod
    def load(cls, path: str | os.PathLike, settings: Mapping | None = None) -> KMeans:
        """The centroids that `save` wrote; with `settings`, only if they were made with the same.

        Raises `ValueError` for a damaged or foreign file, another version or metric, and other settings.
        """
        about = _read_json(path)
        model = cls(about["n_clusters"], seed=about["seed"], settings=about["settings"])
        model.centroids = about["centroids"]
        model.inertia, model.far_distance = about["inertia"], about["far_distance"]
        refuse_mismatch(path, model.settings, settings or {})
        return model

    def _fitted(self) -> np.ndarray:
        if not len(self.centroids):
            raise ValueError("there are no centroids yet; call fit or load first")
        return self.centroids


def default_clusters(n: int) -> int:
    "√n clusters, so that finding a row's cluster and comparing it within cost about the same."
    return max(1, math.isqrt(n))


def _blocks(rows: Rows, width: int) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    step = max(1, READ // max(1, width))
    for a in range(0, len(rows), step):
        b = min(len(rows), a + step)
        yield rows.numbers(np.arange(a, b)), rows.take(slice(a, b))


def _read_json(path: str | os.PathLike) -> dict:
    "What is in a centroids.json, checked, its centroids as an array."
    wrong = f"{os.fspath(path)!r} holds no centroids of imgclean or is damaged; fit and save them anew"
    try:
        about = read_json(path)
        if about["imgclean"] != KIND:
            raise ValueError(wrong)
        kind = about["version"], about["metric"], about["normalised"]
        if kind == (SCHEMA, METRIC, True):
            about["centroids"] = np.array(about["centroids"], dtype=np.float32)
            shape = about["n_clusters"], about["d"]
            numbers = about["inertia"], about["far_distance"], about["seed"] + 0
            if about["centroids"].shape != shape or not np.isfinite(about["centroids"]).all():
                raise ValueError(wrong)
            if not np.isfinite(numbers).all() or not isinstance(about["settings"], dict):
                raise ValueError(wrong)
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise ValueError(wrong) from err
    if kind != (SCHEMA, METRIC, True):
        raise ValueError(
            f"{os.fspath(path)!r} has version {kind[0]} and metric {kind[1]!r}, this imgclean reads version "
            f"{SCHEMA} and {METRIC!r} of rows of length 1; fit and save them anew"
        )
    return about
