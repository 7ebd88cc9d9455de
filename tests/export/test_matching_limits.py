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


def test_no_detection_has_no_median() -> None:
    assert Mismatch(0.5, 2.0, "x") == Mismatch(0.5, 2.0, "x", 0.0, 0.0)


def test_medians_are_of_scores_and_of_boxes() -> None:
    mismatch = worst_mismatch(detections([0.75, 0.5, 0.25]), detections([0.625, 0.5, 0.25], shift=2.0), 0.1, 0.1)
    assert (mismatch.score, mismatch.box) == (0.125, 2.0)
    assert (mismatch.score_median, mismatch.box_median) == (0.0, 2.0)


def test_nothing_found_is_no_mismatch() -> None:
    assert worst_mismatch(detections([0.5]), detections([]), 0.1, 0.1) == Mismatch(0.0, 0.0, "", 0.0, 0.0)


def test_partners_are_chosen_by_differences_in_units_of_their_tolerances() -> None:
    """The nearer one in score is half a tolerance off, the nearer one in place a quarter."""
    boxes = np.array([[0, 0, 4, 4], [0.5, 0, 4, 4]], np.float32)
    same = np.zeros(2, np.int32)
    expected = Detections(boxes, np.array([0.55, 0.5], np.float32), same, CANVAS)
    found = Detections(boxes[:1], np.array([0.5], np.float32), same[:1], CANVAS)
    assert worst_mismatch(expected, found, 0.1, 2.0).box == 0.5
    assert worst_mismatch(expected, found, 0.1, 0.5).box == 0.0


def test_the_largest_difference_counts_and_the_worst_detection_is_named() -> None:
    expected, found = detections([0.75, 0.5, 0.25]), detections([0.75, 0.5, 0.25])
    swapped = found[np.array([1, 0, 2])]
    swapped.scores[:] = found.scores  # of two labels, so that ranks do not tell
    mismatch = worst_mismatch(expected, swapped, 0.1, 0.1)
    assert (mismatch.score, mismatch.box) == (0.25, 0.0)
    found.scores[:2] -= np.float32(0.0625), np.float32(0.125)
    assert worst_mismatch(expected, found, 0.5, 0.1).described.startswith("label 1, score 0.3750")


def test_no_partner_is_an_endless_mismatch() -> None:
    expected = detections([0.75])
    other = Detections(expected.boxes, expected.scores, expected.labels + 1, CANVAS)
    text = "label 1, score 0.7500, box [0.0, 0.0, 4.0, 4.0] has no partner"
    assert worst_mismatch(expected, other, 0.1, 0.1) == Mismatch(np.inf, np.inf, text)
