"""Targets that move to another device stay what they are."""

from __future__ import annotations

import torch

from sparse_detr_deploy.training.targets import Targets


def test_moved() -> None:
    targets = Targets.of([torch.tensor([2, 1])], [torch.rand(2, 4)]).to(torch.device("meta"))
    assert (targets.labels.device.type, targets.boxes.device.type) == ("meta", "meta")
    assert (targets.labels.dtype, targets.boxes.dtype) == (torch.int64, torch.float32)
    assert (targets.labels.shape, targets.boxes.shape, targets.counts) == ((1, 2), (1, 2, 4), (2,))
