"""Detections at the edge of the image are compared where they are drawn: inside it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from sparse_detr_deploy.errors import VerificationError
from sparse_detr_deploy.export.comparison import _check_detections
from sparse_detr_deploy.export.tolerances import FLOAT32
from sparse_detr_deploy.export.verification_report import VerificationReport
from sparse_detr_deploy.modeling.output import Prediction
from tests.runtime.test_metadata import PLAIN


def check(corners: list[float]) -> VerificationReport:
    """One query, whose box sticks out on all sides, and what a file gives for it."""
    expected: Any = Prediction(torch.zeros(1, 1, 1), torch.tensor([[[0.5, 0.5, 1.5, 1.25]]]))
    expected = type("Output", (), {"pred_logits": expected.logits, "pred_boxes": expected.boxes})
    found = {"boxes": np.array([[corners]], np.float32), "scores": np.full((1, 1), 0.5, np.float32)}
    found["labels"] = np.zeros((1, 1), np.int32)
    metadata = dataclasses.replace(PLAIN, num_queries=1, num_classes=1, num_detections=1)
    report = VerificationReport()
    _check_detections(expected, found, metadata, FLOAT32, report, "here")
    return report


@pytest.mark.parametrize("corners", [[-0.25, -0.125, 1.25, 1.125], [0, 0, 1, 1]])
def test_boxes_that_stick_out(corners: list[float]) -> None:
    assert check(corners).box_pixels == 0


@pytest.mark.parametrize("index", range(4))
def test_boxes_that_should(index: int) -> None:
    corners = [0.0, 0, 1, 1]
    corners[index] = 0.5
    with pytest.raises(VerificationError, match="here, image 0: label 0"):
        check(corners)
