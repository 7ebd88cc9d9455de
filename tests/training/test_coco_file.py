"""Annotations of scenes, by numbers worked out apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparse_detr_deploy.errors import OutputError
from sparse_detr_deploy.training import coco
from sparse_detr_deploy.training.coco import coco_dataset, write_dataset
from sparse_detr_deploy.training.config import TrainingConfig
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


def test_an_image_that_opencv_does_not_write(
    tiny_config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It raises nothing, it gives False."""
    monkeypatch.setattr(coco.cv2, "imwrite", lambda path, image: False)
    with pytest.raises(OutputError, match=r"val cannot be written to: choose another place"):
        write_dataset(tmp_path, tiny_config.scenes, "val", 1, 0)
    assert list(tmp_path.iterdir()) == []
