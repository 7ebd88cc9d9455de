"""The comparison of detections: rounding passes, everything else does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_detr_deploy import Detections
from sparse_detr_deploy.export.matching import worst_mismatch

CANVAS = (96, 128)


def pairs(seed: int, queries: int = 12, classes: int = 4, spread: float = 1.0) -> Detections:
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 60, (queries, 4)).astype(np.float32)
    corners[:, 2:] += corners[:, :2]
    scores = (0.01 + spread * generator.uniform(0, 0.9, queries * classes)).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    query, label = np.divmod(order, classes)
    return Detections(corners[query], scores[order], label.astype(np.int32), CANVAS)


def passes(expected: Detections, found: Detections) -> bool:
    return worst_mismatch(expected, found, 1e-3, 0.1).within(1e-3, 0.1)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 20), st.sampled_from([1.0, 1e-2, 1e-4, 0.0]))
def test_rounding_passes(seed: int, count: int, spread: float) -> None:
    expected, generator = pairs(seed, spread=spread), np.random.default_rng(seed)
    scores = expected.scores + generator.uniform(-4e-4, 4e-4, len(expected)).astype(np.float32)
    boxes = expected.boxes + generator.uniform(-0.04, 0.04, expected.boxes.shape).astype(np.float32)
    order = np.argsort(-scores)[:count]
    assert passes(expected, Detections(boxes[order], scores[order], expected.labels[order], CANVAS))


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 9), st.sampled_from([1.0, 1e-2, 1e-4]))
def test_one_wrong_detection_does_not_pass(seed: int, index: int, spread: float) -> None:
    """Also where all scores are alike, and at the end of the list."""
    expected = pairs(seed, spread=spread)
    found = expected[:10]
    moved = found.boxes.copy()
    moved[index, 0] += 200
    higher = found.scores.copy()
    higher[index] += 0.5
    other = found.labels.copy()
    other[index] = 9
    assert passes(expected, found)
    assert not passes(expected, dataclasses.replace(found, boxes=moved))
    assert not passes(expected, dataclasses.replace(found, scores=higher))
    assert not passes(expected, dataclasses.replace(found, labels=other))


def test_one_detection_twice_does_not_pass() -> None:
    expected = pairs(0)
    assert not passes(expected, expected[[0, 1, 1, 3]])


def test_the_best_left_out_does_not_pass() -> None:
    expected = pairs(0)
    mismatch = worst_mismatch(expected, expected[1:5], 1e-3, 0.1)
    assert not mismatch.within(1e-3, 0.1)
    assert "rank 0" in mismatch.described


@pytest.mark.parametrize("field", ["scores", "boxes"])
def test_nan_does_not_pass(field: str) -> None:
    expected = pairs(0)
    found = expected[:5]
    values = getattr(found, field).copy()
    values[2] = np.nan
    assert not passes(expected, dataclasses.replace(found, **{field: values}))
