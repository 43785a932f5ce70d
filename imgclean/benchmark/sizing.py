"""How much work a run on many machines is, stage by stage: seconds of cores and GPUs, bytes moved, bytes held."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, isqrt

import numpy as np

# Ray's object store, of a node's memory, and bytes at most: ray_constants.py of 2.60
STORE_SHARE, STORE_MOST = 0.3, 200e9
RETURNED = 3000  # objects from one task that Ray's authors test with: release/benchmarks/README.md
REF = 3000  # bytes of the driver's memory for an object that it knows of: ray_constants.py
MAPPED = 2**30  # bytes that a task of the shuffle cuts into shards: ray.data's shuffle_input_batch_bytes
SAMPLE, ITERATIONS = 64, 10  # rows for each centroid, rounds: find/kmeans.py
GROUPED = 2000  # images whose groups a task makes: scaleout/results.py
COPIES = 3  # of a cluster's vectors that a task holds: as it came, in order, and what the join makes of them
PARTITION = 2**28  # bytes of vectors in a partition of the shuffle: scaleout/tasks.py
TASK = 2**29  # bytes of vectors that a task compares, or a large partition holds: scaleout/tasks.py
PART = 512  # images in a file of embeddings: scaleout/embedding.py
ROW = 200  # bytes of the driver's memory for an image: name, digest, places, numbers: scaleout/sources.py, tables.py
NEAREST = 96  # the same for its four nearest of either kind: scaleout/candidates.py
EDGE = 24  # bytes of a pair: two int64, two float32
SLOTS = 2  # tasks of a stage for each core that are simulated; more, and more than `FEW`, go in bundles
FEW = 5_000
BATCH = 256  # pairs that a task looks at again: scaleout/verifying.py


@dataclass(frozen=True)
class Cluster:
    "Machines of one kind; the driver is one more of them"

    nodes: int
    cores: int  # of each node, as all below
    gpus: int
    memory: float  # bytes
    network: float  # bytes a second, in and out together
    disk: float  # bytes a second
    disk_size: float  # bytes

    @property
    def store(self) -> float:  # bytes
        "Ray's object store on a node."
        return min(STORE_SHARE * self.memory, STORE_MOST)


@dataclass(frozen=True)
class Dataset:
    "Images and settings of a run"

    images: int
    image_bytes: float = 100_000
    d: int = 2560  # float32 numbers of a vector
    n_clusters: int = 0  # 0: √images
    n_assign: int = 3
    sample: int = 0  # rows that the centroids are learnt from; 0: 64 for each
    max_cluster_size: int = 0  # rows; 0: as many as have 512 MB of vectors
    num_partitions: int = 0  # of the shuffle; 0: see `scaleout.tasks.partitions`
    neighbours: float = 12.0  # pairs an image that the join finds, of which the best are kept
    candidates: float = 3.1  # pairs an image that are looked at again; 0: a cut by cosine alone
    grouped: float = 0.3  # share of the images that are in groups
    zipf: float = 0.0  # the k-th largest cluster is k**-zipf times as large as the largest; 0: all are alike
    giant: float = 0.0  # share of the images in one cluster

    @property
    def clusters(self) -> int:
        return self.n_clusters or isqrt(int(self.images))

    @property
    def row(self) -> int:  # bytes of a vector
        return 4 * self.d

    @property
    def largest(self) -> int:  # rows that a task compares at most
        return self.max_cluster_size or max(2, TASK // self.row)

    @property
    def shuffled(self) -> float:  # bytes
        return self.images * self.n_assign * self.row

    @property
    def partitions(self) -> int:
        fine, coarse = ceil(self.shuffled / PARTITION), ceil(self.shuffled / TASK)
        return self.num_partitions or min(fine, max(RETURNED, coarse))

    @property
    def shards(self) -> int:  # objects
        return ceil(self.shuffled / MAPPED) * self.partitions

    @property
    def parts(self) -> int:  # files of embeddings
        return ceil(self.images / PART)


@dataclass(frozen=True)
class Rates:
    "What a core, a GPU or the driver does in a second; where each comes from: `SOURCES`"

    read: float = 280.0  # images, a core: opened, decoded, resized
    embed_core: float = 39.0  # images, a core
    embed_gpu: float = 8300.0  # images, a GPU
    products: float = 6.3e10  # operations of float32 products with plain centroids or rows, a core
    fit: float = 2.2e10  # the same of k-means, one thread of the driver
    moved: float = 2.5e8  # bytes of vectors cut into shards and joined again, a core
    shards: float = 1200.0  # shards, one thread of the driver
    merge: float = 7e5  # pairs, one thread of the driver
    verify: float = 83.0  # pairs, a core
    groups: float = 3800.0  # images in groups, a core
    start: float = 9.0  # seconds until a worker process can work
    worker: float = 0.7e9  # bytes of a worker process without data


SCRIPT = "a script of the day, machine A of docs/benchmarks.md, CPU-seconds of one thread"
SOURCES = {
    "read": f"{SCRIPT}: 300 photos of 34 KB, 400 pixels wide, opened and squeezed to 224 x 224",
    "embed_core": "docs/benchmarks.md, features: 77.1 images/s on two cores, EfficientNet-Lite0 at 224 pixels, decoding included",
    "embed_gpu": "an estimate: EfficientNet-Lite0 (TensorFlow's padding) at 224 pixels without decoding, one RTX 3090, mixed precision, "
    "as published in timm's results/benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv",
    "products": f"{SCRIPT}: KMeans.nearest of 20,000 rows and 1,000 centroids, 2,560 numbers; similar_pairs of 20,000 rows: 6.6e10",
    "fit": f"{SCRIPT}: KMeans.fit of 6,400 rows, 100 centroids, 2,560 numbers",
    "moved": f"{SCRIPT}: 20,000 rows of 2,560 numbers through Ray's hash_partition, lz4 and back, sorted",
    "shards": "a script of the day, Ray 2.60, CPU-seconds of the driver: 8,000 against 400 shards, their tasks included",
    "merge": f"{SCRIPT}: Top.add of 1.8 million pairs of a million images",
    "verify": "docs/benchmarks.md, whole runs: 7,600 pairs in 46.0 s in two processes",
    "groups": f"{SCRIPT}: group_pairs of 500 photos in pairs",
    "start": "CPU-seconds of a process that imports torch and fastai, machine A",
    "worker": "proportional set size of an actor that holds EfficientNet-Lite0, after its work: 671 MB (1.08 GB resident)",
}


@dataclass
class Tasks:
    "What a stage has to do; arrays have one value a task"

    stage: str
    on: str  # "core", "gpu" or "driver"
    seconds: np.ndarray  # of a core or a GPU
    fetched: np.ndarray | float = 0.0  # bytes over the network before it starts
    sent: np.ndarray | float = 0.0  # bytes over the network when it has ended
    left: np.ndarray | float = 0.0  # bytes in the object store of its node until the next stage has ended
    held: float = 0.0  # bytes of memory while it is computed, beside what was fetched
    parts: np.ndarray | int = 1  # that a task is a bundle of: a lost node costs one of them and not all
    streams: bool = False  # task k waits for task k of the stage before, not for all of that stage

    def __post_init__(self):
        for name in ("fetched", "sent", "left", "parts"):
            setattr(self, name, np.broadcast_to(np.asarray(getattr(self, name), float), self.seconds.shape))


def cluster_sizes(data: Dataset) -> np.ndarray:  # (clusters,) rows, largest first
    "Rows of each cluster, each image in `n_assign` of them and at most once in each."
    k = data.clusters
    weights = np.arange(1, k + 1, dtype=float) ** -data.zipf
    rows = float(data.images) * min(data.n_assign, k)
    sizes = np.zeros(k)
    sizes[0] = data.giant * data.images
    free = np.arange(k) > 0 if data.giant else np.ones(k, bool)
    while free.any() and rows - sizes.sum() > 0.5:  # what does not fit into a cluster goes to the others
        sizes[free] += (rows - sizes.sum()) * weights[free] / weights[free].sum()
        full = free & (sizes >= data.images)
        sizes[full], free = data.images, free & ~full
        if not full.any():
            break
    return sizes


def blocks_of(sizes: np.ndarray, largest: int) -> np.ndarray:  # (clusters,) int64
    "Blocks in which each cluster is compared, two at a time: 1 where it fits into a task."
    return np.where(sizes > largest, np.ceil(sizes / max(1, largest // 2)), 1).astype(np.int64)


def stages(data: Dataset, cluster: Cluster, rates: Rates) -> list[Tasks]:
    "All stages of a run, in order."
    slots = cluster.nodes * cluster.cores
    return [
        *_embedding(data, cluster, rates, slots),
        *_clustering(data, rates, slots),
        *_pairs(data, rates, slots),
    ]


def _embedding(data: Dataset, cluster: Cluster, rates: Rates, slots: int) -> list[Tasks]:
    rows, parts = _files(data, slots)
    on, rate = ("gpu", rates.embed_gpu) if cluster.gpus else ("core", rates.embed_core)
    return [
        Tasks("read", "core", rows / rates.read, fetched=rows * data.image_bytes, parts=parts),
        Tasks("embed", on, rows / rate, sent=rows * data.row, held=PART * data.row, parts=parts, streams=True),
    ]  # fmt: skip


def _clustering(data: Dataset, rates: Rates, slots: int) -> list[Tasks]:
    rows, parts = _files(data, slots)
    sample, k = min(data.images, data.sample or SAMPLE * data.clusters), data.clusters
    fit = np.array([2.0 * sample * k * data.d * ITERATIONS / rates.fit])
    many = blocks_of(sizes := cluster_sizes(data), data.largest) > 1
    again = sizes[many].sum() / sizes.sum()  # of the rows, those of large clusters, which go through files
    moved = rows * data.n_assign * data.row
    return [
        Tasks("centroids", "driver", fit, fetched=sample * data.row, held=data.images * ROW),
        Tasks("assign", "core", 2 * rows * k * data.d / rates.products, fetched=rows * data.row, parts=parts),
        Tasks("shards", "driver", np.array([data.shards / rates.shards]), held=data.images * ROW + data.shards * REF),
        Tasks("shuffle", "core", moved / rates.moved, fetched=rows * data.row, sent=moved * (1 + again), left=moved,
              held=min(MAPPED, data.shuffled), parts=parts),
    ]  # fmt: skip


def _pairs(data: Dataset, rates: Rates, slots: int) -> list[Tasks]:
    found, looks, members = (data.images * x for x in (data.neighbours, data.candidates, data.grouped))
    known = data.images * driver_row(data)
    return [
        join(data, slots, rates),
        Tasks("merge", "driver", np.array([found / rates.merge]), fetched=found * EDGE, held=known),
        _batches("verify", looks, BATCH, rates.verify, 2 * data.image_bytes, slots),
        # Through the driver to a file, in and out, piece by piece.
        Tasks("vectors", "driver", np.zeros(1), sent=2 * members * data.row, held=known),
        _batches("groups", members, GROUPED, rates.groups, data.image_bytes + data.row, slots),
    ]  # fmt: skip


def _batches(stage: str, count: float, size: int, rate: float, n_bytes: float, slots: int) -> Tasks:
    "So many pairs or images in batches of `size`, of `n_bytes` each."
    tasks = _bundles(ceil(count / size), slots)
    each = np.full(tasks, count / max(1, tasks))
    return Tasks(stage, "core", each / rate, fetched=each * n_bytes, parts=np.ceil(each / size))


def driver_row(data: Dataset) -> float:  # bytes
    "What the driver holds for each image."
    return ROW + (NEAREST if data.candidates else 0)


def _files(data: Dataset, slots: int) -> tuple[np.ndarray, int]:
    "Images of each task of a stage that goes file by file, and how many files a task is a bundle of."
    tasks = _bundles(data.parts, slots)
    return np.full(tasks, data.images / tasks), ceil(data.parts / tasks)


def join(data: Dataset, slots: int, rates: Rates) -> Tasks:
    "The join: a task for each cluster, and for each two blocks of a cluster that is too large for a task."
    sizes = cluster_sizes(data)
    blocks = blocks_of(sizes, data.largest)
    seconds = sizes * (sizes - 1) / 2 * 2 * data.d / rates.products
    small, large, b = blocks == 1, blocks > 1, blocks[blocks > 1]
    n_small, n_large = int(small.sum()), int((b * (b + 1) // 2).sum())
    few, many = _bundles(n_small, slots), _bundles(n_large, slots)
    deal = np.arange(n_small) % max(1, few)  # so that each bundle has large and small ones

    def tasks(small: np.ndarray, large: float) -> np.ndarray:
        return np.concatenate([np.bincount(deal, small, few), np.full(many, large / max(1, many))])

    largest = min(float(sizes.max(initial=0)), data.largest) * data.row
    return Tasks(
        "join", "core", tasks(seconds[small], seconds[large].sum()),
        fetched=tasks(sizes[small] * data.row, (sizes[large] * b).sum() * data.row),  # a block with each of them
        held=(COPIES - 1) * max(largest, data.shuffled / data.partitions),
        parts=np.ceil(tasks(np.ones(n_small), n_large)),
    )  # fmt: skip


def _bundles(tasks: int, slots: int) -> int:
    "How many tasks are simulated for so many: all, or bundles of them, the same number for each core."
    most = max(FEW, SLOTS * slots)
    return tasks if tasks <= most else most // slots * slots


def limits(data: Dataset, cluster: Cluster, rates: Rates) -> dict[str, tuple[float, float]]:  # needed, there
    "What a run needs of that of which there is a fixed amount."
    sample = min(data.images, data.sample or SAMPLE * data.clusters) * data.row
    rows = min(float(cluster_sizes(data).max(initial=0)), data.largest)
    spill = max(0.0, data.shuffled / cluster.nodes - cluster.store)
    return {
        "bytes of the driver's memory": (
            max(data.images * driver_row(data), data.images * ROW + max(sample, data.shards * REF)),
            cluster.memory,
        ),
        "bytes of memory for a task": (
            COPIES * max(rows * data.row, data.shuffled / data.partitions) + rates.worker,
            (cluster.memory - cluster.store) / cluster.cores,
        ),
        "bytes of a node's disk": (spill, cluster.disk_size),
        "objects that a task of the shuffle returns": (data.partitions, RETURNED),
    }


def breaks_at(name: str, data: Dataset, cluster: Cluster, rates: Rates) -> float | None:  # images
    "From how many images on a run on this cluster needs more than there is; None: with none up to 10¹²."

    def share(images: float) -> float:
        needed, there = limits(replace(data, images=round(images)), cluster, rates)[name]
        return needed / there

    low, high = 1.0, 1e12
    if share(high) <= 1:
        return None
    while high / low > 1.01:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if share(middle) <= 1 else (low, middle)
    return high
