"""What the user is told while and after precision is measured."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sparse_detr_deploy import Detections
from sparse_detr_deploy.benchmarks.accuracy import Annotations, import_pycocotools, measure_accuracy
from sparse_detr_deploy.errors import BackendError


def detections(*labels: int) -> Detections:
    count = len(labels)
    boxes, scores = np.array([[1, 1, 9, 9]] * count, np.float32), np.full(count, 0.5, np.float32)
    return Detections(boxes, scores, np.array(labels, np.int32), (90, 120))


def test_progress_and_labels(annotations: Path, images: Path) -> None:
    read = Annotations.read(annotations, images)
    metadata = SimpleNamespace(class_names=())
    contender: Any = SimpleNamespace(
        path=Path("x.onnx"), name="x", title="x at ρ 0.3", keep_ratio=0.3, batch=1, metadata=metadata
    )
    found = iter([detections(7, 7, 7), detections(7)])
    detectors: Any = {contender.path: lambda batch, keep_ratio: [next(found) for _ in batch]}
    told: list[str] = []
    warned: list[str] = []
    measure_accuracy([contender], detectors, read, pytest.fail, told.append, warned.append)
    assert told == ["accuracy of x at ρ 0.3, image 1 of 2", "accuracy of x at ρ 0.3, image 2 of 2"]
    (text,) = warned
    assert "labels 7 (100 % of its detections) are not among the category ids 1, 3 of the annotations" in text


@pytest.mark.parametrize("module", ["pycocotools.coco", "pycocotools.cocoeval"])
def test_without_pycocotools(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendError, match=r"pip install 'sparse-detr-deploy\[bench\]'"):
        import_pycocotools()
