"""The networks against those of Hugging Face transformers: another implementation of Deformable DETR and ResNet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from sparse_detr_deploy.modeling import ModelConfig, SparseDETR
from sparse_detr_deploy.modeling.backbones import build_backbone
from sparse_detr_deploy.modeling.backbones.thin_resnet import WIDTHS
from tests import networks, transformers_names
from tests.closeness import assert_close_to_scale

TOLERANCE = 5e-5  # of the largest magnitude
SIZES = torch.tensor([[64, 83], [49, 96]])
KINDS: dict[str, dict[str, Any]] = {
    "one stage": {},
    "box refinement": {"with_box_refine": True, "refine_references": True},
    "two stages": {"with_box_refine": True, "two_stage": True},
    "three levels": {"num_feature_levels": 3},
    "five levels": {"num_feature_levels": 5, "with_box_refine": True, "two_stage": True},
}


@pytest.fixture(scope="module", autouse=True)
def _forget_weights() -> Iterator[None]:
    yield
    networks.values.cache_clear()


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def ours(kind: str) -> SparseDETR:
    config = ModelConfig(
        backbone="thin-resnet18",
        num_classes=5,
        num_queries=12,
        hidden_dim=64,
        nheads=4,
        enc_layers=2,
        dec_layers=2,
        dim_feedforward=48,
        enc_n_points=3,
        dec_n_points=2,
        **KINDS[kind],
    )
    return networks.filled(config)


@pytest.fixture(scope="module")
def theirs(ours: SparseDETR) -> nn.Module:
    """Their detector with our weights and our backbone (they have none as thin)."""
    config = ours.config
    model = transformers.DeformableDetrForObjectDetection(
        transformers.DeformableDetrConfig(
            backbone_config=transformers.ResNetConfig(
                depths=(1, 1, 1, 1),
                hidden_sizes=WIDTHS,
                embedding_size=8,
                layer_type="basic",
                out_features=["stage2", "stage3", "stage4"],
            ),
            num_labels=config.num_classes,
            num_queries=config.num_queries,
            two_stage_num_proposals=config.num_queries,
            d_model=config.hidden_dim,
            encoder_layers=config.enc_layers,
            decoder_layers=config.dec_layers,
            encoder_attention_heads=config.nheads,
            decoder_attention_heads=config.nheads,
            encoder_ffn_dim=config.dim_feedforward,
            decoder_ffn_dim=config.dim_feedforward,
            encoder_n_points=config.enc_n_points,
            decoder_n_points=config.dec_n_points,
            num_feature_levels=config.num_feature_levels,
            with_box_refine=config.with_box_refine,
            two_stage=config.two_stage,
        )
    ).eval()
    model.model.backbone.model = ours.backbone[0]["body"]  # type: ignore[index]
    keys = model.load_state_dict(transformers_names.detector_state(ours.state_dict()), strict=False)
    assert not keys.unexpected_keys
    assert all(name.startswith("model.backbone.") for name in keys.missing_keys)
    return model


@pytest.fixture
def images() -> Tensor:
    """Two images on a canvas of 64×96, zero where there is none."""
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    return images * _mask(images)[:, None]


def _mask(images: Tensor) -> Tensor:
    """1 where a canvas shows image, [B, H, W]."""
    rows, columns = torch.arange(images.shape[2]), torch.arange(images.shape[3])
    return ((rows[:, None] < SIZES[:, :1, None]) & (columns < SIZES[:, 1:, None])).long()


@pytest.mark.parametrize("padded", [False, True])
def test_detector(padded: bool, ours: SparseDETR, theirs: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        found = ours(images, SIZES if padded else None, auxiliary=True)
        expected = theirs(images, pixel_mask=_mask(images) if padded else None)
    assert_close_to_scale(found.pred_logits, expected.logits, TOLERANCE)
    assert_close_to_scale(found.pred_boxes, expected.pred_boxes, TOLERANCE)
    if ours.config.two_stage:
        assert found.proposals is not None
        assert_close_to_scale(found.proposals.logits, expected.enc_outputs_class, TOLERANCE)
        assert_close_to_scale(found.proposals.boxes, expected.enc_outputs_coord_logits.sigmoid(), TOLERANCE)


def test_resnet101() -> None:
    ours = build_backbone(ModelConfig(backbone="resnet101")).eval()
    networks.fill(ours)
    config = transformers.ResNetConfig(depths=(3, 4, 23, 3), out_features=["stage2", "stage3", "stage4"])
    with torch.device("meta"):  # no values are drawn that are replaced at once
        theirs = transformers.ResNetBackbone(config).eval()
    keys = theirs.load_state_dict(transformers_names.resnet_state(ours.state_dict()), strict=False, assign=True)
    assert not keys.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in keys.missing_keys)
    image = torch.randn(1, 3, 33, 65, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found, expected = ours(image), theirs(image).feature_maps
    assert ours.feature_shapes(33, 65) == tuple(tuple(one.shape[2:]) for one in expected)
    for one, other in zip(found, expected, strict=True):
        assert_close_to_scale(one, other, TOLERANCE)
