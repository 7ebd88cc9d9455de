"""Average precision of a network that says what it is told to say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sparse_detr_deploy.training import evaluation
from sparse_detr_deploy.training.batches import targets_of
from sparse_detr_deploy.training.evaluation import evaluate_scenes
from sparse_detr_deploy.training.scenes import Scene, SceneSpec

SPEC = SceneSpec(height=96, width=128)


def scenes(count: int) -> list[Scene]:
    """Each has one object of another class at another place."""
    return [
        Scene(
            np.zeros((SPEC.height, SPEC.width, 3), np.uint8),
            np.array([[index, 2 * index, index + 20, 2 * index + 30]], np.float32),
            np.array([index % 10]),
        )
        for index in range(count)
    ]


class Knows:
    """The truth, image by image, moved to the right by ``shift`` of the canvas."""

    def __init__(self, of: list[Scene], shift: float = 0.0) -> None:
        self.targets, self.shift = targets_of(of, SPEC), shift
        self.asked: list[tuple[int, float | None]] = []

    def __call__(self, images: torch.Tensor, keep_ratio: float | None) -> Any:
        start = sum(count for count, _ in self.asked)
        self.asked.append((len(images), keep_ratio))
        logits = torch.full((len(images), 2, 10), -9.0)
        boxes = torch.full((len(images), 2, 4), 0.5)
        for index in range(len(images)):
            logits[index, 1, self.targets.labels[start + index, 0]] = 9.0
            boxes[index, 1] = self.targets.boxes[start + index, 0]
        boxes[..., 0] += self.shift
        return SimpleNamespace(pred_logits=logits, pred_boxes=boxes)


def test_a_network_that_knows_everything() -> None:
    """Over more than one batch, on images that are no squares."""
    of = scenes(23)
    model: Any = Knows(of)
    said: list[str] = []
    found = evaluate_scenes(model, of, 0.25, said.append)
    assert (found.values["AP"], found.images) == (pytest.approx(1.0), 23)
    assert model.asked == [(20, 0.25), (3, 0.25)]
    assert said == ["image 1 of 23", "image 21 of 23"]


def test_a_network_that_is_a_little_beside() -> None:
    """By 5 of 20 pixels: IoU 15 / 25, so the thresholds 0.5, 0.55 and 0.6 find them, but for rounding."""
    of = scenes(3)
    model: Any = Knows(of, shift=4.9 / SPEC.width)
    assert evaluate_scenes(model, of).values["AP"] == pytest.approx(0.3)


def test_a_hundred_detections_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    monkeypatch.setattr(
        evaluation, "evaluate", lambda dataset, found: kept.extend(len(one.labels) for one in found.values())
    )
    output = SimpleNamespace(pred_logits=torch.zeros(1, 30, 10), pred_boxes=torch.full((1, 30, 4), 0.5))
    model: Any = lambda images, keep_ratio: output  # noqa: E731
    evaluate_scenes(model, scenes(1))
    assert kept == [100]
