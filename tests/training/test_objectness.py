"""The head in the place of the scoring network, by numbers worked out apart."""

from __future__ import annotations

import math

import pytest
import torch

from sparse_detr_deploy.modeling import ModelConfig
from sparse_detr_deploy.modeling.token_grid import TokenGrid
from sparse_detr_deploy.training.objectness import ObjectnessHead


@pytest.fixture
def head() -> ObjectnessHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ObjectnessHead(ModelConfig(hidden_dim=32, num_classes=3))


def test_it_starts_at_one_percent_of_every_class_and_at_the_proposals(head: ObjectnessHead) -> None:
    assert torch.equal(head.class_head.bias, torch.full((3,), -math.log(99.0)))
    torch.testing.assert_close(head.class_head.bias.sigmoid(), torch.full((3,), 0.01))
    assert len(head.box_head.layers) == 3
    assert not head.box_head(torch.ones(2, 32)).any()
    assert all(layer.weight.any() for layer in head.box_head.layers[:-1])


def test_scores_are_those_of_the_best_class(head: ObjectnessHead) -> None:
    tokens = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1))
    logits = head.class_head(tokens)
    assert head.eval()(tokens).tolist() == [[max(token) for token in image] for image in logits.tolist()]


def test_offsets_are_added_to_the_proposals(head: ObjectnessHead) -> None:
    with torch.no_grad():
        head.box_head.layers[-1].bias.copy_(torch.tensor([0.5, -0.25, 1.0, 0.0]))
    tokens = torch.randn(1, 2, 32, generator=torch.Generator().manual_seed(1))
    proposals = torch.tensor([[[0.0, 1.0, -1.0, 2.0], [1.0, 1.0, 1.0, 1.0]]])
    none = torch.zeros(0)
    head.train()(tokens)
    found = head.prediction(TokenGrid(none, none, proposals, none, none))
    assert torch.equal(found.logits, head.class_head(tokens))
    expected = [[[0.5, 0.75, 0.0, 2.0], [1.5, 0.75, 2.0, 1.0]]]
    torch.testing.assert_close(found.boxes, torch.tensor(expected).sigmoid())
