"""How many of the true duplicates a run with a second look finds, and how many of its pairs are true; peers beside it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import typer

from ..dataset.items import Items
from ..find.groups import Groups
from ..find.pairs import Pairs
from ..formatter import DatasetFormatter
from .common import print_json
from .peers import PACKAGES, Answer, ask_peers, check_installed
from .report import draw_curves, write_table
from .scores import Truth, by_edit, pair, read_truth, score, score_ranking, within
from .subsets import check_subsets

MinPrecision = Annotated[float, typer.Option(help="As from_similars'.")]
Peers = Annotated[bool, typer.Option(help="Also imagededup and cleanvision at their defaults, if installed.")]
Kept = Annotated[Path | None, typer.Option(help="File that keeps each half when it is done, to go on later.")]
Table = Annotated[Path | None, typer.Option(help="File for a markdown table with a row for each tool.")]
Picture = Annotated[Path | None, typer.Option(help="File for a picture of precision against recall.")]


def accuracy(
    folder: Annotated[Path, typer.Argument(help="Images, some of them copies of others.")],
    truth: Annotated[
        Path | None,
        typer.Argument(
            help="csv with the columns file, group and edit; without it no two images are the same."
        ),
    ] = None,
    min_precision: MinPrecision = 0.99,
    peers: Peers = False,
    subsets: Annotated[
        int,
        typer.Option(
            help="Random halves of the groups on which to see whether min_precision is held.", min=0
        ),
    ] = 0,
    kept: Kept = None,
    table: Table = None,
    picture: Picture = None,
) -> None:
    "Precision and recall of what a verified run finds, of its ranking, and for each kind of edit; seconds."
    if peers:
        check_installed(*PACKAGES, option="--peers")
    items = Items.from_folder(folder)
    known = read_truth(items, truth)
    result = compare(items, known, min_precision, peers, table, picture)
    if subsets:
        result["subsets"] = check_subsets(items, known, min_precision, subsets, kept)
    print_json(result)


def compare(
    items: Items, truth: Truth, min_precision: float, peers: bool, table: Path | None, picture: Path | None
) -> dict:
    "What imgclean, and with `peers` other tools, make of all `items`; written as table and picture where wanted."
    answer, idxs, place = _ours(items, min_precision)
    calibration = idxs.found.calibration
    name = f"imgclean, min_precision {f'{min_precision:g}'.removeprefix('0')}"
    answers = {name: answer} | (ask_peers(items) if peers else {})
    reports = {tool: _report(of_tool, truth) for tool, of_tool in answers.items()}
    result = {
        "images": len(items),
        "ours": reports[name]
        | {"groups": len(idxs), "false_groups": _false_groups(idxs, place, truth)}
        | {"above_cut": score({pair(place[i], place[j]) for i, j, _ in idxs.found.pairs}, truth)}
        | {f"seconds_{stage}": round(s, 1) for stage, s in idxs.seconds.items()},
        "expected": {"precision": calibration.precision, "recall": calibration.recall}
        if calibration
        else None,
        "settings": {k: v for k, v in idxs.settings.items() if isinstance(v, (int, float, str, type(None)))},
    }
    if peers:
        result["peers"] = {tool: report for tool, report in reports.items() if tool != name}
        result["peer_versions"] = {package: version(package) for package in PACKAGES}
    if table:
        write_table(reports, table)
    if picture:
        draw_curves(answers, truth, picture)
    return result


def _ours(items: Items, min_precision: float) -> tuple[Answer, Groups, list[int]]:
    "All pairs within groups, all candidates by probability; the groups, and for each of their images its item."
    start = perf_counter()
    ds, idxs = DatasetFormatter.from_similars(items, min_precision=min_precision, progress=False, cache=False)
    seconds = perf_counter() - start
    at = {path: k for k, path in enumerate(items.paths)}
    place = [at[path] for path in ds.paths]  # unreadable images are not in `ds`
    candidates, rows = idxs.found.candidates, np.array(place, dtype=np.int64)
    ranked = Pairs.of(rows[candidates.i], rows[candidates.j], candidates.score)
    return Answer(within([place[k] for k in group] for group in idxs), ranked, seconds), idxs, place


def _report(answer: Answer, truth: Truth) -> dict:
    report = score(answer.pairs, truth)
    if answer.ranked is not None and report["true_pairs"]:
        report |= score_ranking(answer.ranked, truth)
    report["seconds"] = round(answer.seconds, 1)
    edits = by_edit(answer.pairs, truth)
    return report | ({"recall_by_edit": edits} if edits else {})


def _false_groups(idxs: Groups, place: list[int], truth: Truth) -> int:
    "Groups that hold images of more than one picture."
    return sum(len({truth.groups[place[k]] for k in group}) > 1 for group in idxs)
