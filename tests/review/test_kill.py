"""kill -9 at random moments: no acknowledged decision and no file is lost. IMGCLEAN_KILLS=100 for more moments."""

import csv
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import victim

from imgclean.dataset.quarantine import manifests

KILLS = int(os.environ.get("IMGCLEAN_KILLS", 4))
FILES = 200


@pytest.fixture
def folder(tmp_path):
    "Files that a review takes for images; each has its own bytes."
    names = [f"{k % 3}/{k}.jpg" for k in range(FILES)]
    for name in names:
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "root/names.json").write_text(json.dumps(names))
    return tmp_path / "root"


def started(what, folder):
    "A process that does `what`, ready to begin."
    child = subprocess.Popen(
        [sys.executable, victim.__file__, what, str(folder)], stdout=subprocess.PIPE, text=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, (Path(victim.__file__).parents[2], *sys.path)))),
    )  # fmt: skip
    assert child.stdout.readline() == "ready\n"
    return child


def killed(child):
    "Kill it; the lines that it said and nobody had read."
    child.kill()
    said = child.stdout.read().splitlines()
    child.wait()
    child.stdout.close()
    return said


def states(folder):
    "What a review of an equal folder holds after 0, 1, 2, … actions."
    review, rng = victim.opened(folder), random.Random(1)
    found = [victim.state(review)]
    for _ in range(victim.ACTIONS):
        victim.act(review, rng)
        found.append(victim.state(review))
    review.ledger.path.unlink()
    return found


def test_no_acknowledged_decision_is_lost(folder):
    expected, rng, cut = states(folder), random.Random(), 0
    ledger = folder / ".imgclean/review.jsonl"
    for _ in range(KILLS):
        child = started("review", folder)
        n = rng.randrange(victim.ACTIONS)
        for _ in range(n):
            assert child.stdout.readline() == "done\n"
        time.sleep(rng.random() * 0.004)
        n += killed(child).count("done")
        cut += n < victim.ACTIONS
        review = victim.opened(folder)
        # What was on its way to the disk may be there, too; it was not said to be.
        assert victim.state(review) in expected[n : n + 2]
        while review.undo():
            pass
        assert victim.state(review) == expected[0]
        ledger.unlink(missing_ok=True)
    print(f"{cut} of {KILLS} reviews were killed before their end")
    assert cut


def files(folder):
    """Name -> where its content is, outside and inside of the quarantine; fails where there are two files of one.

    One file may have two names for a moment: on its way back, it is in its place before it leaves the quarantine.
    """
    found, inodes = {}, {}
    for path in sorted(folder.rglob("*.jpg")):  # the quarantine first
        name, inode = path.read_text(), path.stat().st_ino
        assert inodes.setdefault(name, inode) == inode, f"{name} is there twice"
        found[name] = path.relative_to(folder).as_posix()
    return found


def listed(folder):
    with open(folder / "cleaned.csv", newline="") as f:
        return [row[0] for row in csv.reader(f)][1:]


def test_no_file_is_lost_and_all_come_back(folder):
    names = {name: name for name in json.loads((folder / "names.json").read_text())}
    review = victim.opened(folder)
    review.keep_best()
    start = time.perf_counter()
    review.apply(action="quarantine")
    whole = time.perf_counter() - start
    review.restore()
    rng, between = random.Random(), 0
    for k in range(KILLS):
        (folder / "cleaned.csv").unlink(missing_ok=True)
        before = len(manifests(folder))
        child = started("apply", folder)
        while k % 2 and len(manifests(folder)) == before:  # every other time, when files begin to move
            time.sleep(0.001)
        time.sleep(rng.random() * whole / (1 + k % 2))
        killed(child)
        now = files(folder)
        assert now.keys() == names.keys()
        moved = sum(name != path for name, path in now.items())
        between += 0 < moved < FILES * 3 / 4
        if moved:
            assert len(listed(folder)) == FILES / 4  # whole before the first file moves
        if k % 3:  # killed while it restores as well
            child = started("restore", folder)
            time.sleep(rng.random() * whole)
            killed(child)
            assert files(folder).keys() == names.keys()
        review = victim.opened(folder)
        assert len(review.deleted) == FILES * 3 / 4
        if moved:
            review.restore()
        assert files(folder) == names
    print(f"{between} of {KILLS} were killed while files moved")
