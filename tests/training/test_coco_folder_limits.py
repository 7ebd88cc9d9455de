"""Boxes at the edge of their image, in a data set of one."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.training.coco_folder import CocoFolder


def data_set(folder: Path, bbox: list[float]) -> CocoFolder:
    (folder / "val").mkdir()
    cv2.imwrite(str(folder / "val" / "a.png"), np.zeros((20, 30, 3), np.uint8))
    image = {"id": 1, "file_name": "a.png", "height": 20, "width": 30}
    box = {"id": 7, "image_id": 1, "category_id": 0, "bbox": bbox}
    (folder / "val.json").write_text(json.dumps({"images": [image], "annotations": [box]}))
    return CocoFolder(folder, "val", 20, 30)


@pytest.mark.parametrize(
    ("bbox", "corners"),
    [
        ([0, 0, 30, 20], [0, 0, 30, 20]),
        ([-0.5, -0.5, 31, 21], [0, 0, 30, 20]),  # what rounding does
        ([29.5, 19.5, 0.5, 0.5], [29.5, 19.5, 30, 20]),
    ],
)
def test_boxes_inside(bbox: list[float], corners: list[float], tmp_path: Path) -> None:
    assert data_set(tmp_path, bbox).scene(0).boxes.tolist() == [corners]


@pytest.mark.parametrize(
    ("bbox", "message"),
    [
        ([30, 0, 0.5, 5], "is empty"),  # nothing of it is left on the image
        ([0, 20, 5, 0.5], "is empty"),
        ([-0.5, 0, 0.5, 5], "is empty"),
        ([3, 3, 0, 5], "is empty"),
        ([3, 3, 5, 0], "is empty"),
        ([99, 3, 0, 5], "is empty"),  # outside too, which is not what is wrong with it
        ([3, 99, 5, 0], "is empty"),
        ([3, 3, -1, 5], "is empty"),
        ([3, 3, 5, float("nan")], "is empty"),
        ([-0.6, 0, 5, 5], "lies outside"),
        ([0, -0.6, 5, 5], "lies outside"),
        ([25, 0, 5.6, 5], "lies outside"),
        ([0, 15, 5, 5.6], "lies outside"),
        ([3, 3, 5], "has no bbox"),
    ],
)
def test_boxes_that_are_refused(bbox: list[float], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"annotation 7 {message}"):
        data_set(tmp_path, bbox)
