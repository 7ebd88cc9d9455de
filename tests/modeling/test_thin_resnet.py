"""The thin ResNet: same kind of network as the others, small enough to ship."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sparse_detr_deploy.errors import CheckpointError
from sparse_detr_deploy.export.checkpoint import load_checkpoint
from sparse_detr_deploy.export.checkpoint_writer import save_official_checkpoint
from sparse_detr_deploy.modeling import build_model, sparse_config
from sparse_detr_deploy.modeling.backbones.resnet import FrozenBatchNorm2d, fold_batch_norms
from sparse_detr_deploy.modeling.complexity import _thin_resnet
from tests.closeness import assert_close_to_scale

CONFIG = sparse_config(
    "thin-resnet18", num_classes=10, num_queries=12, hidden_dim=32, nheads=4, enc_layers=2, dec_layers=2
)


def _body() -> nn.Module:
    body: nn.Module = build_model(CONFIG).backbone[0]["body"]  # type: ignore[index,assignment]
    generator = torch.Generator().manual_seed(0)
    for module in body.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.bias.normal_(0, 0.1, generator=generator)
    return body


@pytest.mark.parametrize(("height", "width"), [(160, 160), (97, 131)])
def test_feature_maps_have_the_shapes_that_are_promised(height: int, width: int) -> None:
    body = _body()
    features: tuple[Tensor, ...] = body(torch.zeros(1, 3, height, width))
    assert tuple(tuple(feature.shape[2:]) for feature in features) == body.feature_shapes(height, width)  # type: ignore[operator]
    assert tuple(feature.shape[1] for feature in features) == body.num_channels


def test_folding_batch_norms_changes_nothing() -> None:
    body = _body()
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = body(images)
        fold_batch_norms(body)
        after = body(images)
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in body.modules())
    for one, other in zip(before, after, strict=True):
        assert_close_to_scale(other, one, 1e-5)


def test_multiply_adds_are_those_of_its_convolutions() -> None:
    counted = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal counted
        assert isinstance(module, nn.Conv2d)
        counted += output.shape[2] * output.shape[3] * module.weight.numel()

    body = _body()
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    body(torch.zeros(1, 3, 101, 64))
    assert counted == _thin_resnet(101, 64)


def test_a_checkpoint_tells_its_backbone_by_its_tensors(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = save_official_checkpoint(build_model(CONFIG), tmp_path / "thin.pth")
    content = torch.load(path, weights_only=False)
    del content["args"].backbone
    torch.save(content, path)
    model = load_checkpoint(path)
    assert model.config.backbone == "thin-resnet18"
    assert model.config.short_name == "thin18"


def test_what_it_cannot_be() -> None:
    with pytest.raises(CheckpointError, match="dilation"):
        sparse_config("thin-resnet18", dilation=True)
    with pytest.raises(CheckpointError, match="several feature levels"):
        sparse_config("thin-resnet18", num_feature_levels=1)
