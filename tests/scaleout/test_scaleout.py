"""The whole way on Ray gives what one machine gives, also where half of the machines are lost on the way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import systems
from pictures import write_pictures
from typer.testing import CliRunner

import imgclean
from imgclean.cli import app
from imgclean.formatter import DatasetFormatter

NAMES = ["cat/a.jpg", "cat/b.jpg", "cat/c.jpg", "dog/a.jpg", "dog/b.jpg", "dog/c.jpg"]
run = CliRunner()


def test_without_ray_one_line_says_what_to_install(shop, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run.invoke(app, ["find", str(shop), "--engine", "ray", "-o", str(tmp_path / "out")])
    assert result.exit_code == 2 and not (tmp_path / "out").exists()
    assert result.stderr == (
        "imgclean: looking for duplicates on many machines needs Ray; pip install 'imgclean[ray]'\n"
    )


def test_a_ray_that_does_not_start_is_told_in_one_line(shop, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed; pip install 'imgclean[ray]'")

    def init(**_):
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    result = run.invoke(app, ["find", str(shop), "--engine", "ray", "-o", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert result.stderr.startswith("imgclean: Ray did not start") and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--engine", "dask"], "the only one is ray"),
        (["--engine", "ray"], "needs --out"),
        (["--engine", "ray", "-o", "OUT", "-n", "5"], "-n does not go with"),
        (["--exact"], "--exact goes with --engine ray"),
        (["--num-gpus", "1"], "--num-gpus goes with --engine ray"),
        (["-o", "OUT"], "--out goes with --engine ray"),
        (
            ["--engine", "ray", "-o", "OUT", "--min-precision", ".9", "--min-similarity", ".9"],
            "give one of them",
        ),
        (["--engine", "ray", "-o", "OUT", "--min-similarity", "7"], "between -1 and 1"),
        (["--engine", "ray", "-o", "OUT", "--keep", "none"], "keep"),
    ],
)
def test_options_that_do_not_fit_are_said(shop, tmp_path, options, said):
    options = [str(tmp_path / "out") if o == "OUT" else o for o in options]
    result = run.invoke(app, ["find", str(shop), *options])
    assert result.exit_code == 2 and said in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def named(ds, groups) -> list[list[str]]:
    return [[ds.relpath(k) for k in group] for group in groups]


def test_the_command_finds_what_one_machine_finds(small_ray, shop, tmp_path):
    (shop / "dog/e.jpg").write_text("no image")
    ds, groups = DatasetFormatter.from_similars(shop, min_similarity=0.9, progress=False)
    for more in (["--exact"], []):
        command = [
            "find",
            str(shop),
            "--engine",
            "ray",
            "-o",
            str(tmp_path / "out"),
            "--min-similarity",
            "0.9",
        ]
        result = run.invoke(app, [*command, "--workers", "1", "--json", str(tmp_path / "x.json"), *more])
        assert result.exit_code == 0, result.output
        found = json.loads((tmp_path / "x.json").read_text())
        assert [g["images"] for g in found["groups"]] == named(ds, groups) and len(groups) == 2
        pairs = [(p["a"], p["b"], pytest.approx(p["similarity"], abs=1e-6)) for p in found["pairs"]]
        expected = {(ds.relpath(j), ds.relpath(i)): s for i, j, s in groups.pairs}
        assert {frozenset(p[:2]): p[2] for p in pairs} == {frozenset(ab): s for ab, s in expected.items()}
        assert found["unreadable"] == [{"path": "dog/e.jpg", "error": "not an image that Pillow can read"}]
        assert found["settings"]["method"] == ("exact" if more else "clusters")
        assert found["settings"]["arch"] == "tf_efficientnet_lite0"


def test_a_second_look_finds_the_copies(small_ray, shop, tmp_path):
    ds, groups = imgclean.find_duplicates_ray(shop, tmp_path / "out", concurrency=1, progress=False)
    assert named(ds, groups) == [["cat/a.jpg", "cat/c.jpg", "dog/a.jpg"], ["dog/b.jpg", "dog/d.jpg"]]
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["settings"]["score"] == "probability" and report["seconds"].keys() >= {"embed", "check"}
    imgclean.write_report(ds, groups, tmp_path / "page.html")
    assert "dog/d.jpg" in (tmp_path / "page.html").read_text(encoding="utf-8")


TWO_NODES = """
import sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
tests, photos, out, log = map(Path, sys.argv[1:])
sys.path.insert(0, str(tests))
from conftest import start
from test_embedding import network, spying
import imgclean

size = dict(num_cpus=1, object_store_memory=100 * 2**20, include_dashboard=False)
cluster = start(ray, lambda: Cluster(True, head_node_args=size))
second = start(ray, lambda: cluster.add_node(**size))
ray.init(address=cluster.address, log_to_driver=False)


def remove():
    "As soon as both nodes have looked at something."
    while len({f.name.split("-")[1] for f in log.iterdir()}) < 3 or len(list(log.iterdir())) < 20:
        time.sleep(0.05)
    cluster.remove_node(second, allow_graceful=False)
    (log.parent / "removed").touch()


remover = threading.Thread(target=remove)
remover.start()
imgclean.find_duplicates_ray(
    photos, out, network(), tfm=spying(log, wait=0.1), bs=8, min_similarity=0.99, n_clusters=4, progress=False
)
remover.join()
ray.shutdown()
cluster.shutdown()
"""


@systems.ray
def test_a_node_that_is_lost_costs_nothing(photos, tmp_path):
    pytest.importorskip("ray.data", reason="Ray is not installed; pip install 'imgclean[ray]'")
    from test_embedding import network, of_one_machine, spying, written

    write_pictures(photos, ["c/copy.png", "c/more.png"], [7, 9])
    log, here = tmp_path / "log", Path(__file__).parent
    log.mkdir()
    path = os.pathsep.join([str(here.parents[1]), str(here.parent)])
    command = [sys.executable, "-c", TWO_NODES, *map(str, (here, photos, tmp_path / "out", log))]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "removed").exists()
    assert written(tmp_path / "out") == of_one_machine(network(), photos, spying())
    ds, groups = imgclean.scaleout.results.read_results(tmp_path / "out")
    assert named(ds, groups) == [["b/007.png", "c/copy.png"], ["b/009.png", "c/more.png"]]
