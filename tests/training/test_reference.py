"""Losses, matching, the decoder's attention map and Corr are the original implementation's, to 1e-4 relative."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from sparse_detr_deploy.modeling import DetectorOutput, ModelConfig, build_model
from sparse_detr_deploy.modeling.token_grid import TokenGrid
from sparse_detr_deploy.tokens import LevelShapes
from sparse_detr_deploy.training.criterion import Criterion
from sparse_detr_deploy.training.cross_attention_map import (
    cross_attention_map,
    recorded_cross_attention,
    scoring_loss,
    selection_correlation,
    top_tokens,
)
from sparse_detr_deploy.training.targets import Targets
from tests import reference
from tests.closeness import assert_close_to_scale


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    output: DetectorOutput
    attention: torch.Tensor
    targets: Targets
    grid: TokenGrid
    shapes: LevelShapes
    losses: dict[str, float]


@pytest.fixture(scope="module", params=reference.SPARSE_CASES)
def case(request: pytest.FixtureRequest) -> Case:
    name = str(request.param)
    arrays = reference.load_case(name)
    model = build_model(ModelConfig.from_mapping(arrays["config"]))
    model.load_state_dict(reference.state_dict(name))
    images, sizes = reference.images(name)
    height, width = images.shape[2:]
    filled = bool((sizes == torch.tensor([height, width])).all())
    grid = model.grid(height, width, None if filled else sizes)
    with torch.no_grad(), recorded_cross_attention(model) as sampled:
        output = model(images, grid=grid, auxiliary=True)
    shapes = model.level_shapes(height, width)
    targets = Targets.of(
        [torch.from_numpy(arrays[f"target_labels_{index}"]) for index in range(len(sizes))],
        [torch.from_numpy(arrays[f"target_boxes_{index}"]) for index in range(len(sizes))],
    )
    attention = cross_attention_map(shapes, sampled)
    return Case(name, output, attention, targets, grid, shapes, json.loads(str(arrays["losses"])))


def test_decoder_attention_map(case: Case) -> None:
    expected = reference.load_case(case.name)["dam"]
    image = np.ones(expected.shape, bool) if case.grid.is_image is None else case.grid.is_image[..., 0].numpy() > 0
    assert_close_to_scale(case.attention.numpy()[image], expected[image], 5e-5)


def test_scoring_loss(case: Case) -> None:
    counts = torch.from_numpy(reference.load_case(case.name)["sparse_token_nums"]).long()
    assert case.output.token_scores is not None
    loss = float(scoring_loss(case.output.token_scores, top_tokens(case.attention, counts, case.grid.is_image)))
    assert loss == pytest.approx(case.losses["loss_mask_prediction"], rel=1e-4)


def test_correlation(case: Case) -> None:
    counts = reference.load_case(case.name)["sparse_token_nums"]
    assert case.output.token_scores is not None
    # the original takes max(k) tokens of every image of a batch
    selected = case.output.token_scores.topk(int(counts.max()), dim=1).indices
    found = selection_correlation(case.attention, selected, case.shapes)
    names = ["all", *range(len(case.shapes))]
    expected = [case.losses[f"corr_mask_attn_map_dec_{name}"] for name in names]
    assert [float(value.mean()) for value in found] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_set_losses_of_every_head(case: Case) -> None:
    found = Criterion()(case.output, case.targets)
    expected = {key: value for key, value in case.losses.items() if key in found}
    assert len(found) == 3 * (6 + 1 + 5)
    if "batch2" in case.name:
        # of images that keep fewer tokens than others the original also counts tokens that it did not keep
        expected = {key: value for key, value in expected.items() if "_enc_" not in key}
    assert len(expected) == (21 if "batch2" in case.name else len(found))
    assert {key: float(found[key]) for key in expected} == pytest.approx(expected, rel=1e-4)
