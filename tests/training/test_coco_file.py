"""Annotations of scenes, by numbers worked out apart."""

from __future__ import annotations

import numpy as np

from sparse_detr_deploy.training.coco import coco_dataset
from sparse_detr_deploy.training.scenes import Scene


def scene(*boxes: list[float]) -> Scene:
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    return Scene(np.zeros((20, 30, 3), np.uint8), corners, np.arange(len(boxes), dtype=np.int64))


def test_annotations() -> None:
    found = coco_dataset([scene([1, 2, 5, 9], [0, 0, 3, 4]), scene(), scene([7, 8, 10, 20])])["annotations"]
    # from 1: COCOeval takes a match with annotation 0 for none
    assert [entry["id"] for entry in found] == [1, 2, 3]
    assert [entry["category_id"] for entry in found] == [0, 1, 0]
    assert [entry["bbox"] for entry in found] == [[1, 2, 4, 7], [0, 0, 3, 4], [7, 8, 3, 12]]
