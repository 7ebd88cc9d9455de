"""Comparing detections: sorted by score, two lists may swap neighbours, so they are matched before they are measured."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from sparse_detr_deploy.detections import Detections

_Floats = NDArray[np.floating]


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """The worst pair of two lists of detections; ``box`` in pixels. Infinite where a detection has no partner."""

    score: float
    box: float
    described: str

    def within(self, score: float, box: float) -> bool:
        """Whether both differences are within the tolerances."""
        return self.score <= score and self.box <= box


def worst_mismatch(expected: Detections, found: Detections, score_tolerance: float) -> Mismatch:
    """Match each expected detection with one of the same label and nearly the same score, the nearest box first.

    Detections whose score lies within ``score_tolerance`` of the lowest expected score may have fallen off the end
    of the other list, and are not asked for a partner.
    """
    free = np.ones(len(found), dtype=bool)
    worst = Mismatch(0.0, 0.0, "")
    end = float(expected.scores.min(initial=1.0)) + score_tolerance
    for index in range(len(expected)):
        label, score, box = int(expected.labels[index]), float(expected.scores[index]), expected.boxes[index]
        candidates = np.flatnonzero(
            free & (found.labels == label) & (np.abs(found.scores - score) <= max(score_tolerance, 1e-2))
        )
        described = f"label {label}, score {score:.4f}, box {np.round(box, 1).tolist()}"
        if candidates.size == 0:
            if score > end:
                return Mismatch(float("inf"), float("inf"), f"{described} has no partner")
            continue
        shifts = np.abs(found.boxes[candidates] - box).max(axis=1)
        nearest = int(shifts.argmin())
        partner = int(candidates[nearest])
        shift = float(shifts[nearest])
        if shift > 1.0 and score <= end:
            continue
        free[partner] = False
        difference = abs(float(found.scores[partner]) - score)
        if shift > worst.box or difference > worst.score:
            worst = Mismatch(max(worst.score, difference), max(worst.box, shift), described)
    return worst


def aligned_difference(expected: _Floats, found: _Floats) -> float:
    """Largest absolute difference between rows of ``expected`` [Q, n] and their nearest rows of ``found`` [Q, n]."""
    nearest = [float(np.abs(found - row).max(axis=1).min()) for row in expected]
    return max(nearest, default=0.0)
