"""What test_kill.py starts and kills: a scripted review, or an apply. Says on stdout what is done, line by line."""

import json
import random
import sys
from pathlib import Path

from imgclean.dataset.items import Items
from imgclean.find.groups import Group
from imgclean.review.session import Review

ACTIONS = 60


def opened(folder):
    "A review of all that was in the folder when it was made, in groups of four."
    root = Path(folder)
    names = json.loads((root / "names.json").read_text())
    none = (None,) * len(names)
    items = Items(tuple(root / name for name in names), ("old",) * len(names), none, root)
    return Review(items, [Group(range(k, k + 4)) for k in range(0, len(names), 4)])


def state(review):
    "Marks, labels, and which images of each four are told apart, in one string."
    fours = [range(k, k + 4) for k in range(0, len(review.items), 4)]
    apart = [(i, j) for four in fours for i in four for j in four if i < j and review.is_apart(i, j)]
    return json.dumps([review.deleted, review.kept, list(review.relabeled.items()), apart])


def act(review, rng):
    "One action of a person, some on many groups at once."
    n, g = len(review.items), rng.randrange(len(review.groups))
    k = rng.choice(review.groups[g])
    rng.choice([
        lambda: review.mark(rng.sample(range(n), 5), rng.choice(["delete", "keep", None])),
        lambda: review.keep_only(k, g),
        lambda: review.keep_all(g),
        lambda: review.not_duplicate(k, g),
        lambda: review.keep_best(g),
        lambda: review.accept_suggestions(range(0, len(review.groups), 2)),
        lambda: review.relabel(k, rng.choice(["a", "b", "old"])),
        review.undo,
        review.undo,
        review.redo,
    ])()  # fmt: skip


def main(what, folder):
    review = opened(folder)
    print("ready", flush=True)
    if what == "review":
        rng = random.Random(1)
        for _ in range(ACTIONS):
            act(review, rng)
            print("done", flush=True)
    elif what == "apply":
        review.apply(action="quarantine")
    else:
        review.restore()
    print("finished", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
