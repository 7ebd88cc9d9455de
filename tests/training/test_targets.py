"""Objects of a batch, filled up to the most of one image."""

from __future__ import annotations

import torch

from sparse_detr_deploy.training.targets import Targets


def test_images_are_filled_up_to_the_most_of_one() -> None:
    boxes = [torch.tensor([[0.1, 0.2, 0.3, 0.4]]), torch.zeros(0, 4), torch.tensor([[0.5, 0.6, 0.1, 0.1], [0.2] * 4])]
    found = Targets.of([torch.tensor([7]), torch.zeros(0, dtype=torch.int64), torch.tensor([3, 9])], boxes)
    assert found.counts == (1, 0, 2)
    assert found.total == 3
    assert found.labels.tolist() == [[7, 0], [0, 0], [3, 9]]
    assert found.boxes.shape == (3, 2, 4)
    for index, (count, truth) in enumerate(zip(found.counts, boxes, strict=True)):
        assert torch.equal(found.boxes[index, :count], truth)
    # what fills up is a box of some size, so that no IoU with it is NaN
    assert (found.boxes[..., 2:] > 0).all()
    assert found.labels.dtype == torch.int64
    assert found.to(torch.device("cpu")).counts == (1, 0, 2)


def test_a_batch_of_nothing_has_room_for_one() -> None:
    found = Targets.of([torch.zeros(0, dtype=torch.int64)] * 2, [torch.zeros(0, 4)] * 2)
    assert (found.labels.shape, found.boxes.shape, found.total) == ((2, 1), (2, 1, 4), 0)
