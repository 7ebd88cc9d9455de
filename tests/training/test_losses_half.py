"""Costs and losses of half-precision predictions are computed in float32."""

from __future__ import annotations

import pytest
import torch

from sparse_detr_deploy.modeling.output import Prediction
from sparse_detr_deploy.training.losses import set_losses
from sparse_detr_deploy.training.matcher import HungarianMatcher
from sparse_detr_deploy.training.targets import Targets


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    targets = Targets.of([torch.tensor([0, 2])], [torch.rand(2, 4, generator=generator)])
    logits, boxes = (torch.rand(1, 6, size, generator=generator).to(dtype) for size in (3, 4))
    half, full = Prediction(logits, boxes), Prediction(logits.float(), boxes.float())
    matcher = HungarianMatcher()
    assert torch.equal(matcher._cost(half, targets), matcher._cost(full, targets))
    match = matcher(full, targets)
    for name, value in set_losses(full, targets, match, 2.0).items():
        assert torch.equal(set_losses(half, targets, match, 2.0)[name], value), name
