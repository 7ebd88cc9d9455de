"""Comparing detections: sorted by score, two lists may swap neighbours, so they are matched before they are measured."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_detr_deploy.detections import Detections


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """The worst differences of two lists of detections, ``box`` in pixels, and a line about the worst detection.

    The medians are over the detections, each with its partner.
    """

    score: float
    box: float
    described: str
    score_median: float = 0.0
    box_median: float = 0.0

    def within(self, score: float, box: float) -> bool:
        """Whether both differences are within the tolerances (never, if one is NaN)."""
        return self.score <= score and self.box <= box


def worst_mismatch(expected: Detections, found: Detections, score_tolerance: float, box_tolerance: float) -> Mismatch:
    """Find each detection of ``found`` among all that there are, and measure how far off the worst one is.

    Every found detection must be one of ``expected``, no two the same one, and the scores must be the highest ones.
    So nothing is let off at the end of the list, where scores are close and either of two may be left out.

    Args:
        expected: every (query, class) pair, best first.
        found: the best of them, best first.
        score_tolerance: what a difference of scores is measured by when partners are chosen.
        box_tolerance: the same for boxes, in pixels.
    """
    free = np.ones(len(expected), dtype=bool)
    score = box = worst = 0.0
    described = ""
    paired: list[tuple[float, float]] = []
    for index in range(len(found)):
        label, own_score, own_box = int(found.labels[index]), float(found.scores[index]), found.boxes[index]
        candidates = np.flatnonzero(free & (expected.labels == label))
        text = f"label {label}, score {own_score:.4f}, box {np.round(own_box, 1).tolist()}"
        if candidates.size == 0:
            return Mismatch(float("inf"), float("inf"), f"{text} has no partner")
        differences = _distance(expected.scores[candidates], own_score)
        shifts = _distance(expected.boxes[candidates], own_box).max(axis=1)
        costs = np.maximum(differences / score_tolerance, shifts / box_tolerance)
        nearest = int(costs.argmin())
        free[candidates[nearest]] = False
        paired.append((float(differences[nearest]), float(shifts[nearest])))
        score, box = max(score, paired[-1][0]), max(box, paired[-1][1])
        if costs[nearest] > worst:
            worst, described = float(costs[nearest]), text
    ranks = _distance(expected.scores[: len(found)], found.scores)
    if ranks.size and float(ranks.max()) > score:
        rank = int(ranks.argmax())
        score = float(ranks[rank])
        if score > score_tolerance:
            described = f"rank {rank} has score {found.scores[rank]:.4f} instead of {expected.scores[rank]:.4f}"
    medians = np.median(paired, axis=0) if paired else np.zeros(2)
    return Mismatch(score, box, described, float(medians[0]), float(medians[1]))


def _distance(one: NDArray[Any], other: Any) -> NDArray[Any]:
    """Absolute difference; infinite where one is NaN, which would otherwise lose every comparison."""
    distance: NDArray[Any] = np.nan_to_num(np.abs(one - other), nan=np.inf)
    return distance
