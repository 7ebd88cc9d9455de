"""Detections of a batch, by numbers worked out apart."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.postprocessing import finish
from tests.runtime.test_metadata import PLAIN

TWO = dataclasses.replace(PLAIN, batch=(1, 2, 4), num_queries=3, num_classes=2, num_detections=2)
NAMED = dataclasses.replace(TWO, class_names=("cat", "dog"))


def test_detections() -> None:
    boxes = np.array([[[0, 0, 0.5, 1], [0.25, 0.5, 1.5, 0.75]], [[0.5, -1, 1, 1], [0, 0, 1, 1]]], np.float32)
    outputs = {"boxes": boxes, "scores": np.array([[0.75, 0.5], [0.25, 0.125]], np.float32)}
    outputs["labels"] = np.array([[1, 0], [0, 1]], np.int32)
    first, second = finish(outputs, [(10, 20), (1, 4, 3)], NAMED)
    assert first.boxes.tolist() == [[0, 0, 10, 10], [5, 5, 20, 7.5]]
    assert second.boxes.tolist() == [[2, 0, 4, 1], [0, 0, 4, 1]]
    assert (first.scores.tolist(), second.scores.tolist()) == ([0.75, 0.5], [0.25, 0.125])
    assert (first.labels.tolist(), second.names) == ([1, 0], ["cat", "dog"])
    assert (first.image_size, second.image_size) == ((10, 20), (1, 4))


def test_raw_outputs() -> None:
    raw = dataclasses.replace(NAMED, outputs="raw")
    logits = np.array([[[0.0, -1], [np.log(3), -2], [-3, -4]]], np.float32)
    boxes = np.array([[[0.5, 0.5, 0.5, 0.25], [0.25, 0.25, 0.5, 0.5], [0.1, 0.1, 0.1, 0.1]]], np.float32)
    (found,) = finish({"pred_logits": logits, "pred_boxes": boxes}, [(8, 16)], raw)
    assert found.boxes.tolist() == [[0, 0, 8, 4], [4, 3, 12, 5]]
    np.testing.assert_allclose(found.scores, [0.75, 0.5], rtol=1e-6)
    assert found.labels.tolist() == [0, 0]


@pytest.mark.parametrize(("size", "side"), [((0, 5), "height"), ((5, 0), "width")])
def test_images_without_pixels(size: tuple[int, int], side: str) -> None:
    with pytest.raises(InputError, match=f"the {side} of image 0 is 0"):
        finish({}, [size], TWO)
