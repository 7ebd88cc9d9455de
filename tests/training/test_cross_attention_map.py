"""The decoder's attention map is what the decoder does, and turns into a target and a measure as the paper says."""

from __future__ import annotations

import pytest
import torch

from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.training.cross_attention_map import (
    cross_attention_map,
    recorded_cross_attention,
    scoring_loss,
    selection_correlation,
    top_tokens,
)

SHAPES = ((3, 4), (2, 2))


def _sample(x: float, y: float, level: int, weight: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """One query, one head, one point a level; only ``level`` has weight."""
    locations = torch.full((1, 1, 1, 2, 1, 2), 0.5)
    locations[0, 0, 0, level, 0] = torch.tensor([x, y])
    weights = torch.zeros(1, 1, 1, 2, 1)
    weights[0, 0, 0, level, 0] = weight
    return locations, weights


def test_a_sample_is_shared_out_bilinearly() -> None:
    found = cross_attention_map(SHAPES, [_sample(1.25 / 4, 1.5 / 3, 0)])
    expected = torch.zeros(16)
    expected[[5, 6, 9, 10]] = torch.tensor([0.75, 0.25, 0.75, 0.25]) / 2
    torch.testing.assert_close(found[0], expected)


def test_samples_at_the_rim_reach_the_last_row_and_column_and_no_further() -> None:
    found = cross_attention_map(SHAPES, [_sample(2.75 / 4, 1.5 / 3, 0)])[0]
    assert found[[6, 7, 10, 11]].tolist() == pytest.approx([0.125, 0.375, 0.125, 0.375])
    found = cross_attention_map(SHAPES, [_sample(3.5 / 4, 2.75 / 3, 0)])[0]
    assert found.nonzero().flatten().tolist() == [11]
    assert float(found[11]) == pytest.approx(0.5 * 0.25)


def test_the_second_level_follows_the_first() -> None:
    found = cross_attention_map(SHAPES, [_sample(0.5, 0.0, 1, 0.7)])
    assert found[0].nonzero().flatten().tolist() == [12 + 1]
    assert float(found.sum()) == pytest.approx(0.7)


@pytest.mark.parametrize(("x", "y"), [(-0.5, 0.5), (1.5, 0.5), (0.5, -3.0), (7.0, 7.0)])
def test_samples_outside_count_for_no_token(x: float, y: float) -> None:
    assert float(cross_attention_map(SHAPES, [_sample(x, y, 0)]).sum()) == 0


def test_layers_add_up() -> None:
    one, other = _sample(0.3, 0.3, 0), _sample(0.6, 0.1, 1)
    together = cross_attention_map(SHAPES, [one, other])
    torch.testing.assert_close(together, cross_attention_map(SHAPES, [one]) + cross_attention_map(SHAPES, [other]))


def test_the_record_holds_every_layer_and_leaves_the_model_as_it_was(tiny_model: SparseDETR) -> None:
    images = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = tiny_model(images).pred_logits
        with recorded_cross_attention(tiny_model) as sampled:
            within = tiny_model(images).pred_logits
        tiny_model(images)
    assert torch.equal(before, within)
    assert len(sampled) == tiny_model.config.dec_layers  # and none of the pass after the block
    locations, weights = sampled[0]
    assert locations.shape == (2, 20, 8, 4, 4, 2)
    torch.testing.assert_close(weights.sum((3, 4)), torch.ones(2, 20, 8))
    # what the layers look at lies inside for the most part, so the map holds most of their weight
    total = float(cross_attention_map(tiny_model.level_shapes(96, 128), sampled).sum())
    assert 0.3 < total / (2 * 20 * 8 * len(sampled)) <= 1


def test_top_tokens_keeps_the_count_of_each_image_and_no_padding() -> None:
    attention = torch.tensor([[0.1, 0.5, 0.3, 0.0], [0.9, 0.0, 0.2, 0.8]])
    found = top_tokens(attention, torch.tensor([2, 3]))
    assert found.tolist() == [[0, 1, 1, 0], [1, 0, 1, 1]]
    is_image = torch.tensor([[1.0, 0, 1, 1], [1, 1, 1, 1]])[:, :, None]
    assert top_tokens(attention, torch.tensor([2]), is_image)[0].tolist() == [1, 0, 1, 0]


def test_scoring_loss_is_binary_cross_entropy() -> None:
    scores, wanted = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    expected = -(torch.tensor(2.0).sigmoid().log() + (1 - torch.tensor(-1.0).sigmoid()).log()) / 2
    torch.testing.assert_close(scoring_loss(scores, wanted), expected)


def test_correlation_is_the_share_of_the_attention_that_is_kept() -> None:
    attention = torch.zeros(1, 16)
    attention[0, [0, 1, 12]] = torch.tensor([3.0, 1.0, 4.0])
    overall, first, second = selection_correlation(attention, torch.tensor([[0, 0, 5, 12]]), SHAPES)
    assert [float(overall), float(first), float(second)] == [7 / 8, 3 / 4, 1]
    everything = torch.arange(16)[None]
    assert float(selection_correlation(attention, everything, SHAPES)[0]) == 1
