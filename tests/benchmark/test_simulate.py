"""The simulation against arithmetic, where there is some that can be done by hand."""

import json
from dataclasses import replace
from math import inf

import numpy as np
import pytest
from typer.testing import CliRunner

from imgclean.benchmark.__main__ import app
from imgclean.benchmark.simulate import Faults, Simulation, simulate, simulated
from imgclean.benchmark.sizing import (
    Cluster,
    Dataset,
    Rates,
    Tasks,
    blocks_of,
    breaks_at,
    cluster_sizes,
    join,
    limits,
    stages,
)

NODES, CORES = 4, 2
FREE = Cluster(NODES, CORES, 0, 64e9, inf, inf, 1e12)  # bytes cost no time
SURE = Faults(losses=0.0, stragglers=0.0)
AT_ONCE = Rates(start=0.0)
run = CliRunner()


def play(tasks, cluster=FREE, rates=AT_ONCE, faults=SURE, losses=(), seed=0):
    return Simulation([*tasks], cluster, rates, faults, losses, seed).run()


def work(n=800, seconds=10.0, **more):
    return Tasks("embed", "core", np.full(n, seconds), **more)


def seconds_of(found, stage):
    return found["stages"][stage]["hours"] * 3600


def test_without_skew_and_faults_hours_are_images_by_rate():
    n = 512 * NODES * CORES * 25
    data, rates = Dataset(n, d=64, n_clusters=400, max_cluster_size=10**9), AT_ONCE
    found = simulate(data, FREE, rates, SURE)
    cores = NODES * CORES
    seconds = {
        "embed": n / rates.read + n / rates.embed_core,  # both on the same cores
        "assign": n * 400 * 2 * 64 / rates.products,
        "join": 400 * (3 * n / 400) ** 2 / 2 * 2 * 64 / rates.products,
        "verify": n * data.candidates / rates.verify,
        "groups": n * data.grouped / rates.groups,
    }
    for stage, total in seconds.items():
        assert seconds_of(found, stage) == pytest.approx(total / cores, rel=0.02), stage
    driver = {
        "centroids": 2 * 64 * 400 * 400 * 64 * 10 / rates.fit,
        "shards": data.shards / rates.shards,
        "merge": n * data.neighbours / rates.merge,
    }
    for stage, total in driver.items():  # one thread, however many machines there are
        assert seconds_of(found, stage) == pytest.approx(total), stage
    all_but_read = sum(s["hours"] for name, s in found["stages"].items() if name != "read")
    assert found["hours"] == pytest.approx(all_but_read)
    assert found["nodes_lost"] == found["tasks_done_again"] == 0


def test_every_stage_waits_for_its_workers_to_start():
    found = play([work(8), work(8)], rates=Rates(start=7.0))
    assert found["hours"] * 3600 == pytest.approx(2 * (7 + 10))


def test_a_stage_that_streams_runs_beside_the_one_before():
    read = Tasks("read", "core", np.full(80, 1.0))
    see = Tasks("embed", "gpu", np.full(80, 5.0), streams=True)
    found = play([read, see], replace(FREE, gpus=1))
    assert found["hours"] * 3600 == pytest.approx(1 + 80 * 5 / NODES)
    assert found["stages"]["embed"]["utilisation"]["gpu"] > 0.95


@pytest.mark.parametrize("at", [35.0, 412.0, 700.0])
def test_a_lost_node_adds_what_it_must(at):
    found = play([work()], losses=[(at, 1)], faults=Faults(back=1e9))
    in_flight = CORES * (at % 10)
    left = 8000 - NODES * CORES * at + in_flight
    expected = at + left / ((NODES - 1) * CORES)
    assert found["hours"] * 3600 == pytest.approx(expected, abs=20)  # the last tasks are not cut to measure
    assert found["nodes_lost"] == 1 and found["tasks_done_again"] == 2 * CORES  # half of them only waited


def test_a_node_that_comes_back_helps_again():
    gone = play([work()], losses=[(100.0, 1)], faults=Faults(back=1e9))
    back = play([work()], losses=[(100.0, 1)], faults=Faults(back=200.0))
    expected = (8000 + CORES * 200) / (NODES * CORES)
    assert back["hours"] * 3600 == pytest.approx(expected, abs=20)
    assert 1000 < back["hours"] * 3600 < gone["hours"] * 3600


def test_of_a_bundle_only_the_part_in_hand_is_done_again():
    whole, parts = (
        play([work(8, 1000.0, parts=p)], losses=[(500.5, 0)], faults=Faults(back=1e9)) for p in (1, 1000)
    )
    assert whole["hours"] * 3600 == pytest.approx(1000 + 1000)  # when the other nodes have done theirs
    assert parts["hours"] * 3600 == pytest.approx(1000 + 500)


def test_what_lay_in_the_store_of_a_lost_node_is_made_again():
    shuffle = Tasks("shuffle", "core", np.full(80, 10.0), left=1e6)
    after = Tasks("join", "core", np.full(80, 10.0))
    found = play([shuffle, after], losses=[(150.0, 2)], faults=Faults(back=1e9))
    made = 80 / NODES  # tasks of the shuffle that this node had done
    assert found["tasks_done_again"] == made + 2 * CORES
    assert found["hours"] * 3600 == pytest.approx(150 + (500 + 10 * made) / 6, abs=20)
    later = Tasks("verify", "core", np.full(80, 10.0), fetched=1e6)
    small = replace(FREE, disk=1e9, memory=1e5)  # so that it all goes to disk
    found = play([shuffle, after, later], small, losses=[(150.0, 2)], faults=Faults(back=1e9))
    assert found["bytes_spilled"] > 0 and found["stages"]["verify"]["utilisation"]["disk"] == 0
    kept = play([without_left(shuffle), after], losses=[(150.0, 2)], faults=Faults(back=1e9))
    assert kept["hours"] * 3600 == pytest.approx(150 + 500 / 6, abs=20)


def without_left(tasks):
    return Tasks(tasks.stage, tasks.on, tasks.seconds)


def test_one_giant_cluster_takes_its_square_on_one_worker_unless_it_is_split():
    data = Dataset(1_000_000, d=64, n_assign=1, giant=0.5, n_clusters=1000)
    pairs = 500_000 * 499_999 / 2
    one_worker = pairs * 2 * 64 / AT_ONCE.products
    together = NODES * CORES
    whole, split = (
        play([join(replace(data, max_cluster_size=size), together, AT_ONCE)]) for size in (10**6, 10_000)
    )
    assert seconds_of(whole, "join") == pytest.approx(one_worker, rel=0.01)
    assert whole["stages"]["join"]["bottleneck"] == "longest task"
    assert seconds_of(split, "join") == pytest.approx(one_worker / together, rel=0.03)
    assert split["stages"]["join"]["bottleneck"] == "core"


@pytest.mark.parametrize("stage", ["fetched", "sent"])
def test_bytes_over_a_slow_network_take_their_time(stage):
    found = play([work(80, 1.0, **{stage: 1e9})], replace(FREE, network=1e8))
    assert found["hours"] * 3600 == pytest.approx(80 * 10 / NODES, rel=0.05)
    assert found["stages"]["embed"]["bottleneck"] == "network"


def test_what_has_no_room_in_the_object_store_goes_to_disk_and_back():
    cluster = replace(FREE, disk=1e8)
    room, size = cluster.store, 40e9
    shuffle = Tasks("shuffle", "core", np.full(8, 1.0), left=size / 2)
    after = Tasks("join", "core", np.full(8, 1.0), fetched=size / 2)
    found = play([shuffle, after], cluster)
    assert found["bytes_spilled"] == pytest.approx(NODES * (size - room))
    written = read = (size - room) / 1e8
    assert found["hours"] * 3600 == pytest.approx(written + read + 2, rel=0.02)
    assert play([shuffle, after], replace(cluster, memory=1e12))["bytes_spilled"] == 0


def test_peak_memory_is_workers_and_what_they_hold():
    found = play([work(80, 10.0, held=1e9)], rates=Rates(start=0.0, worker=2e9))
    assert found["peak_memory_of_a_node"] == pytest.approx(CORES * 3e9)


def test_stragglers_take_longer():
    slow = play([work()], faults=Faults(stragglers=1.0, slower=3.0))
    assert slow["hours"] == pytest.approx(3 * play([work()])["hours"])
    few = play([work()], faults=Faults(stragglers=0.1, slower=3.0))
    assert few["hours"] * 3600 == pytest.approx(1000 * 1.2, rel=0.05)


SMALL = Dataset(50_000, d=256, zipf=0.5)
MEAN = Faults(stragglers=0.02, losses=10.0)


def test_the_same_seed_gives_the_same_run():
    one, again, other = (simulate(SMALL, FREE, Rates(), MEAN, seed=s) for s in (1, 1, 2))
    assert one == again and one["nodes_lost"] > 0 and one["hours"] != other["hours"]


@pytest.mark.parametrize("seed", range(3))
def test_more_faults_take_no_less_time(seed):
    for more in (
        [replace(MEAN, losses=0.0, stragglers=s) for s in (0.0, 0.1, 0.5)],
        [replace(MEAN, stragglers=0.0, losses=x, back=300.0) for x in (0.0, 3.0, 30.0)],
    ):
        hours = [simulate(SMALL, FREE, Rates(), faults, seed=seed)["hours"] for faults in more]
        assert hours == sorted(hours) and hours[0] < hours[-1]


@pytest.mark.parametrize("shape", [{}, {"zipf": 1.0}, {"giant": 0.5}, {"giant": 0.5, "zipf": 0.7}])
def test_cluster_sizes_add_up(shape):
    data = Dataset(10_000, n_clusters=50, n_assign=3, **shape)
    sizes = cluster_sizes(data)
    assert sizes.sum() == pytest.approx(30_000) and sizes.max() <= 10_000 and sizes.min() > 0
    if shape.get("giant"):
        assert sizes[0] == 5000
    elif shape:
        assert sizes[0] / sizes[9] == pytest.approx(10)


def test_large_clusters_are_cut_as_the_package_cuts_them():
    Clusters = pytest.importorskip(
        "imgclean.scaleout.clustering", reason="needs ray: pip install 'imgclean[ray]'"
    ).Clusters
    sizes = np.array([10, 100, 101, 1000, 12345])
    theirs = Clusters(None, sizes, 100).blocks
    assert np.array_equal(blocks_of(sizes, 100), theirs)


def test_all_work_is_there_whatever_it_is_bundled_into():
    few, many = FREE, replace(FREE, nodes=300, cores=64)
    data = Dataset(20_000_000, d=64)
    for a, b in zip(stages(data, few, AT_ONCE), stages(data, many, AT_ONCE), strict=True):
        assert a.seconds.sum() == pytest.approx(b.seconds.sum()), a.stage
        assert a.fetched.sum() == pytest.approx(b.fetched.sum()), a.stage
        assert a.sent.sum() == pytest.approx(b.sent.sum()), a.stage


def test_what_breaks_first_breaks_there():
    cluster = Cluster(16, 32, 1, 128e9, 3e9, 2e9, 2e12)
    found = simulate(Dataset(50_000_000), cluster, Rates(), SURE)
    first = found["breaks_first"]
    at = found["limits"][first]["breaks_at_images"]
    for images, breaks in ((at / 1.02, False), (at * 1.02, True)):
        needed, there = limits(Dataset(round(images)), cluster, Rates())[first]
        assert (needed > there) is breaks
    others = [v["breaks_at_images"] for v in found["limits"].values() if v["breaks_at_images"]]
    assert at == min(others)
    assert (
        breaks_at(first, Dataset(1), replace(cluster, memory=inf, disk_size=inf), Rates()) is None or at > 0
    )


def test_the_command_prints_every_plan_and_case():
    result = run.invoke(
        app, ["scale", "--simulate", "--plan", "1M", "--set", "images=9000", "--set", "nodes=3"]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [r["case"] for r in found["runs"]] == ["even", "zipf", "half in one cluster", "zipf, faults"]
    for one in found["runs"]:
        assert one["settings"]["images"] == 9000 and one["cluster"]["nodes"] == 3
        assert list(one["stages"])[:3] == ["read", "embed", "centroids"] and one["hours"] > 0
        assert all(0 <= u <= 1.001 for s in one["stages"].values() for u in s["utilisation"].values())
    assert set(found["sources"]) == set(found["runs"][0]["rates"])


@pytest.mark.parametrize(
    "given, said",
    [
        (["--plan", "2M"], "no plan '2M'"),
        (["--set", "speed=2"], "no 'speed'"),
        (["--set", "nodes=x"], "no number"),
    ],
)
def test_what_there_is_not_is_said(given, said):
    result = run.invoke(app, ["scale", "--simulate", *given])
    assert result.exit_code == 2 and said in " ".join(result.stderr.replace("│", " ").split())


def test_a_plan_can_be_had_without_the_command():
    assert simulated(["1M"], ["images=5000"])["runs"][0]["plan"] == "1M"
