import numpy as np
from PIL import Image

from imgclean.benchmark.peers import Answer
from imgclean.benchmark.report import draw_curves, write_table
from imgclean.benchmark.scores import Truth
from imgclean.find.pairs import Pairs

TRUTH = Truth(("a", "a", "a", "b"), ("",) * 4)


def test_a_table_by_hand(tmp_path):
    scores = {"pairs": 1234, "precision": 1.0, "recall": 0.25, "seconds": 0.44}
    write_table(
        {"one": scores | {"average_precision": 0.5, "recall_at_precision_99": 0.0}, "two": scores},
        tmp_path / "t.md",
    )
    head, line, one, two = (tmp_path / "t.md").read_text().splitlines()
    assert head == "|  | pairs | precision | recall | average precision | recall at precision .99 | seconds |"
    assert line.count("---") == head.count("|") - 1
    assert one == "| one | 1,234 | 1.000 | .250 | .500 | .000 | 0.4 |"
    assert two == "| two | 1,234 | 1.000 | .250 |  |  | 0.4 |"


def test_a_curve_is_drawn_where_there_are_scores(tmp_path):
    ranked = Pairs.of([1, 3, 2], [0, 0, 0], [0.9, 0.5, 0.1])
    pictures = []
    for answer in (Answer({(1, 0)}, None, 1.0), Answer({(1, 0)}, ranked, 1.0)):
        draw_curves({"tool": answer}, TRUTH, tmp_path / "p.png")
        pictures.append(np.asarray(Image.open(tmp_path / "p.png").convert("RGB")).astype(int))
    blue = [(np.abs(p - (31, 119, 180)).sum(-1) < 30).sum() for p in pictures]  # matplotlib's first colour
    assert 0 < blue[0] < blue[1]
    draw_curves(
        {"tool": Answer(set(), ranked, 1.0)}, Truth(tuple("abcd"), ("",) * 4), tmp_path / "p.png"
    )  # nothing to find
