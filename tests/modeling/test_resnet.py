"""ResNet in detail: frozen batch norms with small variances, folding of every kind, shapes of the maps."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_detr_deploy.modeling import ModelConfig
from sparse_detr_deploy.modeling.backbones import build_backbone
from sparse_detr_deploy.modeling.backbones.resnet import Bottleneck, FrozenBatchNorm2d, fold_batch_norms
from tests.closeness import assert_close_to_scale


def _randomise(module: nn.Module) -> None:
    """Statistics of channels that hardly vary, as trained networks have them: epsilon counts."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, FrozenBatchNorm2d):
            part.running_var.uniform_(1e-6, 5e-5, generator=generator)
            for buffer in (part.weight, part.bias, part.running_mean):
                buffer.normal_(0, 0.01, generator=generator)


def _normal(*size: int) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(1))


def test_frozen_batch_norm_is_batch_norm_of_fixed_statistics() -> None:
    norm = FrozenBatchNorm2d(5)
    _randomise(norm)
    features = _normal(2, 5, 3, 4) * 0.01
    expected = F.batch_norm(features, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-5)
    assert_close_to_scale(norm(features), expected, 1e-5)
    assert not list(norm.parameters())


@pytest.mark.parametrize(("stride", "dilation", "downsample"), [(1, 1, True), (2, 1, True), (1, 2, False)])
def test_folding_changes_no_block(stride: int, dilation: int, downsample: bool) -> None:
    block = nn.Sequential(Bottleneck(32, 8, stride, dilation, downsample))
    _randomise(block)
    features = _normal(1, 32, 9, 10)
    with torch.no_grad():
        expected = block(features)
        fold_batch_norms(block)
        assert_close_to_scale(block(features), expected, 1e-5)
    assert not any(isinstance(part, FrozenBatchNorm2d) for part in block.modules())


@pytest.mark.parametrize(
    ("backbone", "levels", "dilation"),
    [
        *itertools.product(["resnet50"], [1, 4], [False, True]),
        *itertools.product(["swin-t"], [1, 4], [False]),
        ("resnet101", 4, False),
        ("thin-resnet18", 4, False),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(64, 97), (33, 250)])
def test_maps_have_the_shapes_that_are_promised(
    backbone: str, levels: int, dilation: bool, height: int, width: int
) -> None:
    with torch.device("meta"):
        body = build_backbone(ModelConfig(backbone=backbone, num_feature_levels=levels, dilation=dilation))
    maps = body(torch.zeros(1, 3, height, width, device="meta"))
    assert tuple(tuple(one.shape[2:]) for one in maps) == body.feature_shapes(height, width)
    assert tuple(one.shape[1] for one in maps) == tuple(body.num_channels)
