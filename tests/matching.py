"""Comparing detections and raw outputs in tests, apart from what the exporter uses for its own verification."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_detr_deploy import Detections
from tests.closeness import assert_close_to_scale

Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def arrays(detections: Detections) -> Arrays:
    return detections.scores, detections.labels, detections.boxes


def assert_same_detections(expected: Arrays, found: Arrays, score: float = 1e-3, box: float = 0.1) -> None:
    """Scores, labels and boxes (pixels) of two lists are the same, whatever the order of equal scores.

    A detection whose score is within the tolerance of the other list's last one may be missing there.
    """
    assert len(expected[0]) == len(found[0])
    np.testing.assert_allclose(np.sort(expected[0]), np.sort(found[0]), atol=score)
    for one, other in ((expected, found), (found, expected)):
        free = np.ones(len(other[0]), dtype=bool)
        for own_score, label, own_box in zip(*one, strict=True):
            fits = free & (other[1] == label) & (np.abs(other[0] - own_score) <= score)
            fits &= np.abs(other[2] - own_box).max(axis=1) <= box
            if fits.any():
                free[np.flatnonzero(fits)[0]] = False
            else:
                assert own_score <= other[0].min() + score, f"label {label}, score {own_score}, box {own_box}"


def assert_same_raw(expected: NDArray[Any], found: NDArray[Any], fraction: float = 1e-4) -> None:
    """Rows [Q, n] are the same in some order."""
    distance = np.abs(expected[:, None] - found[None]).max(axis=2)
    nearest = distance.argmin(axis=1)
    assert len(set(nearest.tolist())) == len(expected)
    assert_close_to_scale(found[nearest], expected, fraction)
