"""A run on many machines, played through in simulated time: stragglers, lost nodes, start-up, spilling to disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import simpy
from scipy.stats import binom

from .sizing import SOURCES, Cluster, Dataset, Rates, Tasks, breaks_at, limits, stages

RESOURCES = ("core", "gpu", "network", "disk", "driver")
AHEAD = 2  # workers of a stage for each core or GPU: one fetches while the other computes


@dataclass(frozen=True)
class Faults:
    "What goes wrong"

    stragglers: float = 0.0  # share of the tasks that take longer
    slower: float = 3.0  # how many times as long
    losses: float = 0.0  # share of the nodes that are lost in an hour
    back: float = 600.0  # seconds until another node is there in place of a lost one


class Plan(NamedTuple):
    "A dataset on a cluster"

    data: Dataset
    cluster: Cluster


PLANS = {
    "1M": Plan(Dataset(1_000_000), Cluster(2, 8, 1, 32e9, 1.25e9, 0.5e9, 0.4e12)),
    "100M": Plan(Dataset(100_000_000), Cluster(16, 32, 1, 128e9, 3.1e9, 2e9, 2e12)),
    "10B": Plan(Dataset(10_000_000_000), Cluster(200, 64, 2, 512e9, 12.5e9, 6e9, 8e12)),
}
CASES = {
    "even": {},
    "zipf": {"zipf": 0.5},
    "half in one cluster": {"giant": 0.5},
    "zipf, faults": {"zipf": 0.5, "stragglers": 0.01, "losses": 0.01},
}


def simulated(plans: Sequence[str] = (), changes: Sequence[str] = (), seed: int = 0) -> dict:
    """What `scale --simulate` prints: each of `plans` (default: all) in each case, with `changes` like "nodes=32".

    Raises `ValueError` for a plan or a name that there is not.
    """
    changed = dict(map(_change, changes))
    runs = []
    for name in plans or PLANS:
        if name not in PLANS:
            raise ValueError(f"there is no plan {name!r}; give one of {', '.join(PLANS)}")
        for case, settings in CASES.items():
            data, cluster = PLANS[name]
            parts = (data, cluster, Rates(), Faults())
            run = simulate(*(_with(part, settings | changed) for part in parts), seed=seed)
            runs.append({"plan": name, "case": case} | run)
    return {"simulated": True, "seed": seed, "sources": SOURCES, "runs": runs}


def _change(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    known = [f.name for kind in (Dataset, Cluster, Rates, Faults) for f in fields(kind)]
    if name not in known:
        raise ValueError(f"there is no {name!r} to set; give NAME=NUMBER with one of {', '.join(known)}")
    try:
        return name, float(value)
    except ValueError:
        raise ValueError(f"{text!r} sets no number; give NAME=NUMBER, such as nodes=32") from None


def _with(part, settings: dict[str, float]):
    "The same with some fields set, each in the type that it has."
    kinds = {f.name: int if f.type == "int" else float for f in fields(part)}
    return replace(part, **{name: kinds[name](v) for name, v in settings.items() if name in kinds})


def simulate(data: Dataset, cluster: Cluster, rates: Rates, faults: Faults, *, seed: int = 0) -> dict:
    "Hours, bytes, memory, use and bottleneck of each stage of a run, and what would break first with more images."
    work = stages(data, cluster, rates)
    times = loss_times(cluster, faults, seed)
    found = Simulation(work, cluster, rates, faults, times, seed).run()
    needs = limits(data, cluster, rates)
    breaks = {name: breaks_at(name, data, cluster, rates) for name in needs}
    first = min((name for name in breaks if breaks[name]), key=breaks.__getitem__, default=None)
    return {
        "settings": asdict(data) | {"n_clusters": data.clusters, "max_cluster_size": data.largest},
        "cluster": asdict(cluster),
        "faults": asdict(faults),
        "rates": asdict(rates),
        **found,
        "limits": {
            name: {"needed": needed, "there": there, "breaks_at_images": breaks[name]}
            for name, (needed, there) in needs.items()
        },
        "breaks_already": [name for name, (needed, there) in needs.items() if needed > there],
        "breaks_first": first,
    }


def loss_times(cluster: Cluster, faults: Faults, seed: int) -> Iterator[tuple[float, int]]:
    "Seconds from one loss to the next, and which node; the same nodes in the same order, the sooner the more are lost."
    rng = np.random.default_rng([seed, 1])
    while faults.losses:
        yield rng.exponential() * 3600 / (faults.losses * cluster.nodes), int(rng.integers(cluster.nodes))


class Node:
    "A machine, what works on it and what it holds"

    def __init__(self, env: simpy.Environment, cluster: Cluster):
        # One transfer after the other takes as long as all of them side by side.
        counts = {"core": cluster.cores, "gpu": max(1, cluster.gpus), "network": 1, "disk": 1, "driver": 1}
        self.resources = {name: simpy.Resource(env, count) for name, count in counts.items()}
        self.workers: list[simpy.Process] = []
        self.processes = 0  # of workers that compute, not counting those that fetch ahead
        self.up, self.held, self.stored, self.peak = True, 0.0, 0.0, 0.0


class Stage:
    "The tasks of a stage, which of them are to do, and what was measured"

    def __init__(self, env: simpy.Environment, tasks: Tasks, slow: np.ndarray):
        self.tasks, self.todo = tasks, simpy.PriorityStore(env)
        self.seconds = tasks.seconds * slow
        self.remaining = self.seconds.copy()  # of each task; a bundle may be done in part
        self.fetched, self.sent, self.left, self.parts = tasks.fetched, tasks.sent, tasks.left, tasks.parts
        self.to_do = len(self.seconds)
        self.done_by: dict[int, Node] = {}
        self.ended, self.start, self.end = env.event(), env.now, env.now
        self.busy, self.again = Counter(), 0
        self.next: Stage | None = None  # that may do a task as soon as this one has done it

    def put(self, ks: Iterable[int]) -> None:
        for k in ks:
            self.todo.put(k)

    def add(self, other: Stage, ks: list[int]) -> None:
        "Tasks of another stage, to be done again within this one."
        first = len(self.seconds)
        for name in ("seconds", "remaining", "fetched", "sent", "left", "parts"):
            source = other.seconds if name == "remaining" else getattr(other, name)
            setattr(self, name, np.concatenate([getattr(self, name), source[ks]]))
        self.to_do += len(ks)
        self.again += len(ks)
        self.put(range(first, first + len(ks)))


class Simulation:
    "The stages of a run on a cluster, one after the other, but for those that stream"

    def __init__(
        self,
        work: list[Tasks],
        cluster: Cluster,
        rates: Rates,
        faults: Faults,
        losses: Iterable[tuple[float, int]],  # seconds since the last one, node
        seed: int = 0,
    ):
        self.env = simpy.Environment()
        self.work, self.cluster, self.rates, self.faults, self.losses = work, cluster, rates, faults, losses
        self.rng = np.random.default_rng([seed, 2])
        self.nodes = [Node(self.env, cluster) for _ in range(cluster.nodes)]
        self.driver = Node(self.env, cluster)
        self.running: list[Stage] = []
        self.before: list[Stage] = []
        self.ended: list[Stage] = []
        self.spilled, self.from_disk, self.lost = 0.0, 0.0, 0

    def run(self) -> dict:
        "What was measured of each stage, and of all."
        self.env.process(self._lose())
        self.env.run(self.env.process(self._stages()))
        found = {stage.tasks.stage: self._report(stage) for stage in self.ended}
        busy = sum((stage.busy for stage in self.ended), Counter())
        longest = max(found, key=lambda name: found[name]["hours"])
        return {
            "hours": self.env.now / 3600,
            "bottleneck": f"{longest}: {found[longest]['bottleneck']}",
            "bytes_shuffled": found["shuffle"]["bytes_sent"] if "shuffle" in found else 0.0,
            "bytes_spilled": self.spilled,
            "peak_memory_of_a_node": max(node.peak for node in self.nodes),
            "peak_memory_of_the_driver": self.driver.peak,
            "utilisation": self._use(busy, self.env.now),
            "nodes_lost": self.lost,
            "tasks_done_again": sum(stage.again for stage in self.ended),
            "stages": found,
        }

    def _report(self, stage: Stage) -> dict:
        seconds = stage.end - stage.start
        use = self._use(stage.busy, seconds)
        most = max(use, key=use.__getitem__)
        idle = "start of the workers" if self.rates.start > seconds / 2 else "longest task"
        return {
            "starts_at_hours": stage.start / 3600,
            "hours": seconds / 3600,
            "bottleneck": most if use[most] >= 0.5 else idle,
            "utilisation": use,
            "bytes_fetched": float(stage.fetched.sum()),
            "bytes_sent": float(stage.sent.sum()),
            "tasks": int(stage.tasks.parts.sum()),
            "done_again": stage.again,
        }

    def _use(self, busy: Counter, seconds: float) -> dict[str, float]:
        each = {"core": self.cluster.cores, "gpu": self.cluster.gpus, "network": 1, "disk": 1}
        there = {name: count * self.cluster.nodes for name, count in each.items()} | {"driver": 1}
        return {name: busy[name] / max(1e-9, seconds * count) for name, count in there.items() if count}

    def _stages(self) -> Iterator[simpy.Event]:
        groups: list[list[Tasks]] = []
        for tasks in self.work:
            if len(tasks.seconds):
                groups[-1].append(tasks) if tasks.streams else groups.append([tasks])
        for group in groups:
            self.before, self.running = self.running, [Stage(self.env, t, self._slow(t)) for t in group]
            for stage, after in pairwise(self.running):
                stage.next = after
            self.running[0].put(range(self.running[0].to_do))
            self._hire(self._nodes())
            for stage in self.running:
                yield stage.ended
            self._close()

    def _nodes(self) -> list[Node]:
        on_driver = self.running[0].tasks.on == "driver"
        return [self.driver] if on_driver else [node for node in self.nodes if node.up]

    def _slow(self, tasks: Tasks) -> np.ndarray:
        "How many times as long each task takes; of a bundle, the mean of its parts."
        luck = self.rng.random(len(tasks.seconds))
        share = binom.ppf(luck, tasks.parts, self.faults.stragglers) / tasks.parts
        return 1 + (self.faults.slower - 1) * share

    def _hire(self, nodes: list[Node]) -> None:
        for stage in self.running:
            for _ in range(AHEAD):
                for _ in range(nodes[0].resources[stage.tasks.on].capacity if nodes else 0):
                    for node in nodes:  # in turn, so that a few tasks go to all
                        node.workers.append(self.env.process(self._worker(node, stage)))
        for node in nodes:
            node.processes = sum(node.resources[stage.tasks.on].capacity for stage in self.running)

    def _dismiss(self, node: Node) -> None:
        for worker in node.workers:
            if worker.is_alive:
                worker.interrupt()
        node.workers, node.processes = [], 0

    def _close(self) -> None:
        "The workers of a stage end with it; what the stage before left in the object stores is not needed any more."
        for node in (*self.nodes, self.driver):
            self._dismiss(node)
        self.ended += self.running
        left = sum(
            float(stage.tasks.left.sum()) for stage in self.running
        )  # not what was made again for them
        self.from_disk = min(1.0, self.spilled / left) if left else 0.0
        if not left:
            for node in self.nodes:
                node.stored = 0.0

    def _lose(self) -> Iterator[simpy.Event]:
        for wait, number in self.losses:
            yield self.env.timeout(wait)
            node = self.nodes[number]
            if node.up:
                node.up, self.lost = False, self.lost + 1
                self._dismiss(node)
                self._lose_objects(node)
                self.env.process(self._replace(node))

    def _lose_objects(self, node: Node) -> None:
        "What lay in the node's object store is made again, where a stage still needs it."
        if node.stored and self.running:
            for stage in (*self.before, *self.running):
                ks = [k for k, by in stage.done_by.items() if by is node and stage.left[k]]
                for k in ks:
                    del stage.done_by[k]
                self.running[0].add(stage, ks)
        node.stored = 0.0

    def _replace(self, node: Node) -> Iterator[simpy.Event]:
        yield self.env.timeout(self.faults.back)
        node.up = True
        if self.running[0].tasks.on != "driver":
            self._hire([node])

    def _worker(self, node: Node, stage: Stage) -> Iterator[simpy.Event]:
        "Does one task after the other until the stage has ended or the node is lost."
        with suppress(simpy.Interrupt):
            yield self.env.timeout(0 if node is self.driver else self.rates.start)
            while True:
                got = stage.todo.get()
                try:
                    k = yield got
                except simpy.Interrupt:
                    if stage.to_do:  # afterwards nothing comes any more, and to cancel takes long
                        got.cancel()
                    raise
                try:
                    yield from self._do(node, stage, k)
                except simpy.Interrupt:
                    stage.again += 1
                    stage.put([k])
                    raise
                self._done(node, stage, k)

    def _do(self, node: Node, stage: Stage, k: int) -> Iterator[simpy.Event]:
        with self._holding(node, stage.fetched[k] / stage.parts[k]):
            yield from self._spend(node, stage, "disk", stage.fetched[k] * self.from_disk / self.cluster.disk)
            yield from self._spend(node, stage, "network", stage.fetched[k] / self.cluster.network)
            yield from self._compute(node, stage, k)
            yield from self._spend(node, stage, "network", stage.sent[k] / self.cluster.network)
            room = max(0.0, self.cluster.store - node.stored)
            over = max(0.0, stage.left[k] - room)
            node.stored += stage.left[k]
            self.spilled += over
            yield from self._spend(node, stage, "disk", over / self.cluster.disk)

    @contextmanager
    def _holding(self, node: Node, n_bytes: float) -> Iterator[None]:
        node.held += n_bytes
        now = node.held + min(node.stored, self.cluster.store) + node.processes * self.rates.worker
        node.peak = max(node.peak, now)
        try:
            yield
        finally:
            node.held -= n_bytes

    def _spend(self, node: Node, stage: Stage, what: str, seconds: float) -> Iterator[simpy.Event]:
        "Waits for a resource of the node, then uses it for so long."
        if seconds <= 0:
            return
        with node.resources[what].request() as turn:
            yield turn
            start = self.env.now
            try:
                yield self.env.timeout(seconds)
            finally:
                stage.busy[what] += self.env.now - start

    def _compute(self, node: Node, stage: Stage, k: int) -> Iterator[simpy.Event]:
        "Parts of a bundle that were done before the node is lost need not be done again."
        part, before = stage.seconds[k] / stage.parts[k], stage.remaining[k]
        with node.resources[stage.tasks.on].request() as turn:
            yield turn
            start = self.env.now
            try:
                with self._holding(node, stage.tasks.held):
                    yield self.env.timeout(before)
            except simpy.Interrupt:
                stage.remaining[k] = before - part * ((self.env.now - start) // part)
                raise
            finally:
                stage.busy[stage.tasks.on] += self.env.now - start

    def _done(self, node: Node, stage: Stage, k: int) -> None:
        stage.done_by[k] = node
        stage.to_do -= 1
        if stage.next:
            stage.next.put([k])
        if not stage.to_do:
            stage.end = self.env.now
            if not stage.ended.triggered:
                stage.ended.succeed()
