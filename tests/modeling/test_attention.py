"""The attention layers around the ops: projections, masks, the start of training."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparse_detr_deploy.modeling.attention import MSDeformAttn, SelfAttention
from tests.closeness import assert_close_to_scale

SHAPES = ((3, 4), (2, 2))
HEADS, LEVELS, POINTS, DIM = 2, 2, 3, 8


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def layer() -> MSDeformAttn:
    """Of weights that all differ; it samples as a recorder does: it keeps what it is called with."""
    layer = MSDeformAttn(DIM, LEVELS, HEADS, POINTS)
    for index, parameter in enumerate(layer.parameters()):
        parameter.data = normal(*parameter.shape, seed=index)
    return layer.requires_grad_(False)


@pytest.mark.parametrize("padded", [False, True])
def test_what_is_sampled(padded: bool, layer: MSDeformAttn) -> None:
    query, memory, references = normal(2, 5, DIM), normal(2, 16, DIM, seed=1), torch.rand(2, 5, LEVELS, 4)
    is_image = (normal(2, 16, 1, seed=2) > 0).float() if padded else None
    calls: list[tuple[Any, ...]] = []

    def attend(*arguments: Any) -> Tensor:
        calls.append(arguments)
        return normal(2, 5, DIM, seed=3)

    layer.attend = attend
    found = layer(query, references, memory, SHAPES, is_image)
    assert_close_to_scale(found, layer.output_proj(normal(2, 5, DIM, seed=3)), 1e-6)
    ((value, shapes, points, offsets, logits),) = calls
    assert shapes is SHAPES
    assert points is references
    # the bias of the projection does not show where there is no image
    projected = layer.value_proj(memory) if is_image is None else layer.value_proj(memory) * is_image
    assert_close_to_scale(value, projected.reshape(2, 16, HEADS, DIM // HEADS), 1e-6)
    assert_close_to_scale(offsets, layer.sampling_offsets(query).reshape(2, 5, HEADS, LEVELS, POINTS, 2), 1e-6)
    assert_close_to_scale(logits, layer.attention_weights(query).reshape(2, 5, HEADS, LEVELS * POINTS), 1e-6)
    if is_image is not None:
        assert value[is_image[..., 0] == 0].abs().max() == 0


@pytest.mark.parametrize("heads", [1, 4, 8])
def test_training_starts_with_points_that_fan_out(heads: int) -> None:
    """Deformable DETR, A.4: one direction a head, on a square whose half side is the number of the point."""
    layer = MSDeformAttn(heads * 2, LEVELS, heads, POINTS)
    assert not layer.sampling_offsets.weight.any()
    assert not layer.attention_weights.weight.any()
    assert not layer.attention_weights.bias.any()
    bias = layer.sampling_offsets.bias.view(heads, LEVELS, POINTS, 2).detach()
    for head in range(heads):
        x, y = math.cos(2 * math.pi * head / heads), math.sin(2 * math.pi * head / heads)
        side = max(abs(x), abs(y))
        expected = torch.tensor([[x / side * point, y / side * point] for point in range(1, POINTS + 1)])
        assert_close_to_scale(bias[head], expected.expand(LEVELS, -1, -1), 1e-6)


def test_no_values_on_the_meta_device() -> None:
    with torch.device("meta"):
        assert MSDeformAttn(DIM, LEVELS, HEADS, POINTS).sampling_offsets.bias.is_meta


def test_self_attention_is_that_of_pytorch() -> None:
    """Queries and keys carry the position, values do not."""
    layer, theirs = SelfAttention(DIM, HEADS), nn.MultiheadAttention(DIM, HEADS, batch_first=True)
    for index, parameter in enumerate(layer.parameters()):
        parameter.data = normal(*parameter.shape, seed=index) * 2
    theirs.load_state_dict(layer.state_dict())
    placed, value = normal(2, 7, DIM, seed=5), normal(2, 7, DIM, seed=6)
    with torch.no_grad():
        expected, _ = theirs(placed, placed, value)
        assert_close_to_scale(layer(placed, value), expected, 1e-5)
