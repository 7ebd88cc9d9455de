"""The measures of a mismatch, at the edges and by numbers worked out apart."""

from __future__ import annotations

import numpy as np
import pytest

from sparse_detr_deploy import Detections
from sparse_detr_deploy.export.matching import Mismatch, worst_mismatch

CANVAS = (96, 128)


def detections(scores: list[float], shift: float = 0.0) -> Detections:
    count = len(scores)
    boxes = np.array([[8 * i + shift, 0, 8 * i + 4, 4] for i in range(count)], np.float32).reshape(count, 4)
    return Detections(boxes, np.array(scores, np.float32), np.arange(count, dtype=np.int32), CANVAS)


@pytest.mark.parametrize(
    ("score", "box", "within"),
    [(0.5, 2.0, True), (0.5001, 2.0, False), (0.5, 2.0001, False), (float("nan"), 2.0, False), (0.5, np.inf, False)],
)
def test_within(score: float, box: float, within: bool) -> None:
    assert Mismatch(score, box, "").within(0.5, 2.0) is within


def test_medians_are_of_scores_and_of_boxes() -> None:
    mismatch = worst_mismatch(detections([0.75, 0.5, 0.25]), detections([0.625, 0.5, 0.25], shift=2.0), 0.1, 0.1)
    assert (mismatch.score, mismatch.box) == (0.125, 2.0)
    assert (mismatch.score_median, mismatch.box_median) == (0.0, 2.0)


def test_nothing_found_is_no_mismatch() -> None:
    assert worst_mismatch(detections([0.5]), detections([]), 0.1, 0.1) == Mismatch(0.0, 0.0, "", 0.0, 0.0)
