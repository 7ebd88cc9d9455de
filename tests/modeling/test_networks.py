"""Networks of every shape give what the original implementations give: stages, refinement, levels, backbones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from sparse_detr_deploy.modeling import DetectorOutput, ModelConfig, SparseDETR, build_model
from tests import networks
from tests.closeness import assert_close_to_scale

TOLERANCE = 5e-5  # of the largest magnitude; two orders of summation differ by up to 4e-6 of it


@pytest.fixture(scope="module", autouse=True)
def _forget_weights() -> Iterator[None]:
    yield
    networks.values.cache_clear()


@pytest.fixture(scope="module", params=networks.CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(case: str) -> SparseDETR:
    return networks.network(case)


def test_state_dict_has_the_original_names(case: str, model: SparseDETR) -> None:
    state = {name: list(tensor.shape) for name, tensor in sorted(model.state_dict().items())}
    own = {name: shape for name, shape in state.items() if not name.startswith("backbone.")}
    assert own == networks.load_case(case)["state"]
    backbone = json.dumps({name: shape for name, shape in state.items() if name not in own})
    assert hashlib.sha256(backbone.encode()).hexdigest() == networks.load_case(case)["backbone_sha256"]


def test_trained_parameters_are_as_many(case: str, model: SparseDETR) -> None:
    assert sum(parameter.numel() for parameter in model.parameters()) == networks.load_case(case)["trained"]


@pytest.mark.parametrize(
    ("changes", "millions"),
    [
        ({"num_feature_levels": 1}, 34),
        ({"num_feature_levels": 1, "dilation": True}, 34),
        ({}, 40),
        ({"with_box_refine": True, "refine_references": True}, 41),
        ({"with_box_refine": True, "two_stage": True}, 41),
    ],
)
def test_parameters_of_deformable_detr_as_published(changes: dict[str, Any], millions: int) -> None:
    with torch.device("meta"):
        model = build_model(ModelConfig(**changes))
    # README of fundamentalvision/Deformable-DETR; the frozen first stage of the backbone is left out
    assert round((sum(parameter.numel() for parameter in model.parameters()) - 222_400) / 1e6) == millions


@pytest.mark.parametrize(("backbone", "published"), [("resnet50", 25_557_032), ("resnet101", 44_549_160)])
def test_parameters_of_the_backbone_as_published(backbone: str, published: int) -> None:
    with torch.device("meta"):
        model = build_model(ModelConfig(backbone=backbone))
    state = model.backbone[0].state_dict()
    learnt = sum(tensor.numel() for name, tensor in state.items() if "running" not in name)
    # torchvision's table of weights; its classifier of 1000 classes is not in a detector
    assert learnt == published - (2048 + 1) * 1000


def test_padded_batch(case: str, model: SparseDETR) -> None:
    with torch.no_grad():
        output = model(*networks.padded_images(case), auxiliary=True)
    _assert_same(case, "padded", output)


def test_one_image_that_fills_the_canvas() -> None:
    images, _ = networks.padded_images("one_stage", count=1)
    with torch.no_grad():
        output = networks.network("one_stage")(images, auxiliary=True)
    _assert_same("one_stage", "alone", output)


def _assert_same(case: str, run: str, output: DetectorOutput) -> None:
    """Logits and boxes of every decoder layer."""
    expected = networks.load_case(case)
    layers = [(layer.logits, layer.boxes) for layer in output.decoder_auxiliary]
    layers.append((output.pred_logits, output.pred_boxes))
    logits, boxes = (torch.stack(parts) for parts in zip(*layers, strict=True))
    assert_close_to_scale(logits, torch.from_numpy(expected[f"{run}_logits"]), TOLERANCE)
    assert_close_to_scale(boxes, torch.from_numpy(expected[f"{run}_boxes"]), TOLERANCE)
