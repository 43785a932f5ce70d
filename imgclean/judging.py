"""The threshold that fits the user's own answers: some thirty pairs to judge in the grid, and what they change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from .cascade import Found
from .dataset.facts import Facts
from .dataset.items import Items
from .find.groups import Groups, group_pairs
from .find.judged import pairs_to_ask, refined
from .find.pairs import Pairs

if TYPE_CHECKING:
    from .review.session import Review


def pairs_to_judge(
    ds: Items,
    idxs: Groups,  # from `DatasetFormatter.from_similars` with a second look
    n: int = 30,
    seed: int = 0,
) -> Groups:  # each of two images, most likely copies first; for `ImageCleaner(ds, …)`
    """The pairs whose answers would tell most about where to cut; the likeliest and the unlikeliest are among them.

    No image is in two of them. Mark one of the two for deletion where they are one picture, keep both where they
    are not; then `calibrate_by_review`. Judge before you review `idxs` in the same folder: a mark on an
    image counts wherever it is shown. Raises `ValueError` where `idxs` have no calibration to refine.
    """
    found, key = _calibrated(idxs), ds.key()
    asked = _without_shared_images(found.candidates, pairs_to_ask(found.calibration, 3 * n, seed), n)
    groups = []
    for i, j, score in asked:
        groups += group_pairs(Pairs.of([i], [j], [score]), partial(Facts, ds), protected=idxs.protected)
    for group in groups:
        group.dataset = key
    judged = Groups(groups, asked, idxs.settings)
    judged.protected, judged.explain = idxs.protected, idxs.explain
    judged.found = replace(found, pairs=asked)
    return judged


def calibrate_by_review(
    idxs: Groups,
    review: Review
    | Mapping[tuple[int, int], bool],  # or a grid; or (i, j) -> whether they are the same picture
) -> Groups:
    """The groups at the threshold that fits what a person said, in a `review` or as a mapping of pairs to answers.

    Of a review, a group of two was answered yes where one of them is marked for deletion, and no where both are kept as
    no duplicates; any other has no answer. Pairs answered yes are among the new `pairs`, those answered no are not,
    though a third image may still hold both in one group, which a `Review` parts. `found.calibration` has the new
    estimate, `found.answers` all answers so far. No image is looked at again. Raises `ValueError` where there is no calibration to refine.
    """
    found = _calibrated(idxs)
    answers = found.answers | dict(_answers(found, review))
    first = found.first or found.calibration
    asked = np.array(sorted(answers), dtype=np.int64)
    told = np.array([answers[k] for k in asked], dtype=bool)
    candidates = found.candidates
    calibration = refined(first, candidates.score.astype(np.float64), asked, told)
    taken = candidates.score >= np.float32(calibration.cut)
    taken[asked] = told
    score = np.where(np.isin(np.arange(len(candidates)), asked[told]), 1.0, candidates.score)
    kept = Pairs.of(candidates.i[taken], candidates.j[taken], score[taken])
    groups = idxs.regroup(
        replace(found, pairs=kept, cut=calibration.cut, calibration=calibration, first=first, answers=answers)
    )
    groups.settings, groups.seconds = idxs.settings | groups.settings, idxs.seconds
    groups.explain, groups.computed = idxs.explain, idxs.computed
    return groups


def _without_shared_images(pairs: Pairs, places: np.ndarray, n: int) -> Pairs:
    "At most `n` of the pairs at `places`, from all over them, best first."
    used, taken = set(), []
    for k in np.concatenate([places[start::3] for start in range(3)]):
        both = {int(pairs.i[k]), int(pairs.j[k])}
        if len(taken) < n and not both & used:
            used |= both
            taken.append(k)
    taken = np.sort(np.array(taken, dtype=np.int64))
    return Pairs(pairs.i[taken], pairs.j[taken], pairs.score[taken])


def _calibrated(idxs: Groups) -> Found:
    found = getattr(idxs, "found", None)
    if found is None or found.calibration is None or idxs.regroup is None:
        raise ValueError(
            "these groups have no calibration to refine; give those of DatasetFormatter.from_similars without n and "
            "min_similarity, of a dataset of ten images or more"
        )
    return found


def _answers(found: Found, review) -> list[tuple[int, bool]]:  # place among the candidates, answer
    place = {(i, j): k for k, (i, j, _) in enumerate(found.candidates)}
    if isinstance(review, Mapping):
        pairs = {(max(pair), min(pair)): bool(same) for pair, same in review.items()}
        unknown = [pair for pair in pairs if pair not in place]
        if unknown:
            raise ValueError(f"the pair {unknown[0]} is no candidate; give pairs of pairs_to_judge")
        return [(place[pair], same) for pair, same in pairs.items()]
    review = getattr(review, "review", review)  # a grid has one
    deleted = set(review.deleted)
    shown = {(max(g), min(g)) for g in review.groups if len(g) == 2}  # without those told apart before
    apart = [(k, False) for pair, k in place.items() if review.is_apart(*pair)]
    return apart + [
        (place[i, j], True)
        for i, j in shown & place.keys()
        if (i in deleted) != (j in deleted) and not review.is_apart(i, j)
    ]
