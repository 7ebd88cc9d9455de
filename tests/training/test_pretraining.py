"""Which tokens answer for an object in the dense phase."""

from __future__ import annotations

import torch

from sparse_detr_deploy.training.pretraining import middle_tokens
from sparse_detr_deploy.training.targets import Targets

SHAPES = ((20, 20), (10, 10), (5, 5), (3, 3))
STARTS = (0, 400, 500, 525)


def _match(*boxes: tuple[float, float, float, float]) -> list[tuple[int, int]]:
    """(token, object) pairs of one image of 160 × 160 pixels; boxes in pixels."""
    targets = Targets.of([torch.zeros(len(boxes), dtype=torch.int64)], [torch.tensor(boxes).view(-1, 4) / 160])
    match = middle_tokens(targets, SHAPES)
    assert set(match.image.tolist()) <= {0}
    return list(zip(match.prediction.tolist(), match.target.tolist(), strict=True))


def test_every_object_has_a_token_wherever_it_lies() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        size = float(torch.exp(torch.empty(()).uniform_(2.5, 4.56, generator=generator)))
        low = size / 2
        x, y = (float(torch.empty(()).uniform_(low, 160 - low, generator=generator)) for _ in range(2))
        assert _match((x, y, size, 0.6 * size)), (x, y, size)


def test_the_level_follows_the_size() -> None:
    for level, size in enumerate((14.0, 32.0, 64.0, 128.0)):
        tokens = [token for token, _ in _match((80, 80, size, size / 2))]
        end = STARTS[level + 1] if level < 3 else 534
        assert tokens
        assert all(STARTS[level] <= token < end for token in tokens)


def test_the_smaller_object_takes_a_token_that_two_could_have() -> None:
    pairs = _match((44, 44, 22, 22), (44, 44, 13, 13))
    middle = 5 * 20 + 5
    assert dict(pairs)[middle] == 1


def test_filled_up_objects_and_empty_images_have_no_token() -> None:
    empty = torch.zeros(0, dtype=torch.int64)
    targets = Targets.of([empty, torch.tensor([3])], [torch.zeros(0, 4), torch.tensor([[0.5, 0.5, 0.1, 0.1]])])
    match = middle_tokens(targets, SHAPES)
    assert set(match.image.tolist()) == {1}
    assert set(match.target.tolist()) == {0}
