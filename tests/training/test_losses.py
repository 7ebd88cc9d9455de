"""Matching and losses on cases that can be worked out by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from sparse_detr_deploy.modeling.output import Prediction
from sparse_detr_deploy.training.boxes import corners, generalized_iou
from sparse_detr_deploy.training.losses import focal_loss, set_losses
from sparse_detr_deploy.training.matcher import HungarianMatcher, Match
from sparse_detr_deploy.training.targets import Targets

NOTHING = Targets.of([torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, 4)])


def _prediction(images: int, count: int, classes: int = 5, seed: int = 0) -> Prediction:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(images, count, 4, generator=generator) * 0.4 + 0.1
    return Prediction(torch.randn(images, count, classes, generator=generator), boxes)


def test_giou_of_known_boxes() -> None:
    box = torch.tensor([0.5, 0.5, 0.2, 0.2])
    assert float(generalized_iou(box, box)) == pytest.approx(1)
    beside = torch.tensor([0.7, 0.5, 0.2, 0.2])  # touches: no overlap, no gap
    assert float(generalized_iou(box, beside)) == pytest.approx(0, abs=1e-6)
    apart = torch.tensor([0.9, 0.5, 0.2, 0.2])  # a third of the hull is empty
    assert float(generalized_iou(box, apart)) == pytest.approx(-1 / 3, abs=1e-6)
    torch.testing.assert_close(corners(box), torch.tensor([0.4, 0.4, 0.6, 0.6]))


def test_focal_loss_of_one_logit() -> None:
    p = 1 / (1 + math.exp(-1.5))
    positive = float(focal_loss(torch.tensor(1.5), torch.tensor(1.0)))
    negative = float(focal_loss(torch.tensor(1.5), torch.tensor(0.0)))
    assert positive == pytest.approx(-0.25 * (1 - p) ** 2 * math.log(p), rel=1e-5)
    assert negative == pytest.approx(-0.75 * p**2 * math.log(1 - p), rel=1e-5)


def _cost(logit: float, box: list[float], truth: list[float], weights: tuple[float, float, float]) -> float:
    """Of one pair, worked out with plain numbers: focal, L1 and GIoU of boxes (cx, cy, w, h)."""
    p = 1 / (1 + math.exp(-logit))
    focal = -0.25 * (1 - p) ** 2 * math.log(p) + 0.75 * p**2 * math.log(1 - p)
    l1 = sum(abs(one - other) for one, other in zip(box, truth, strict=True))
    overlap, hull = 1.0, 1.0
    for axis in (0, 1):
        (low, high), (other_low, other_high) = (
            (of[axis] - of[axis + 2] / 2, of[axis] + of[axis + 2] / 2) for of in (box, truth)
        )
        overlap *= max(0.0, min(high, other_high) - max(low, other_low))
        hull *= max(high, other_high) - min(low, other_low)
    union = box[2] * box[3] + truth[2] * truth[3] - overlap
    return weights[0] * focal + weights[1] * l1 - weights[2] * (overlap / union - (hull - union) / hull)


@pytest.mark.parametrize("weights", [(2.0, 5.0, 2.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_the_cost_is_focal_l1_and_giou(weights: tuple[float, float, float]) -> None:
    prediction, truth = _prediction(2, 4), _prediction(2, 3, seed=1).boxes
    targets = Targets.of([torch.tensor([1, 4, 1]), torch.tensor([0, 2, 3])], list(truth))
    found = HungarianMatcher(*weights)._cost(prediction, targets)
    assert found.shape == (2, 4, 3)
    for image, chosen, target in itertools.product(range(2), range(4), range(3)):
        label = int(targets.labels[image, target])
        boxes = prediction.boxes[image, chosen].tolist(), truth[image, target].tolist()
        expected = _cost(float(prediction.logits[image, chosen, label]), *boxes, weights)
        assert float(found[image, chosen, target]) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_weights_are_the_published_ones() -> None:
    assert HungarianMatcher() == HungarianMatcher(class_weight=2.0, l1_weight=5.0, giou_weight=2.0)


@pytest.mark.parametrize("seed", range(5))
def test_the_match_is_the_cheapest_of_all(seed: int) -> None:
    prediction, labels = _prediction(1, 5, seed=seed), [1, 4, 1]
    truth = _prediction(1, 3, seed=seed + 100).boxes[0]
    match = HungarianMatcher()(prediction, Targets.of([torch.tensor(labels)], [truth]))

    def cost(chosen: tuple[int, ...]) -> float:
        return sum(
            _cost(
                float(prediction.logits[0, one, label]),
                prediction.boxes[0, one].tolist(),
                box.tolist(),
                (2.0, 5.0, 2.0),
            )
            for one, label, box in zip(chosen, labels, truth, strict=True)
        )

    assert match.target.tolist() == [0, 1, 2]
    assert tuple(match.prediction.tolist()) == min(itertools.permutations(range(5), 3), key=cost)


def test_more_objects_than_predictions_match_as_many_as_there_are() -> None:
    targets = Targets.of([torch.tensor([0, 1, 2, 3])], [_prediction(1, 4, seed=2).boxes[0]])
    match = HungarianMatcher()(_prediction(1, 2), targets)
    assert sorted(match.prediction.tolist()) == [0, 1]


def test_what_is_not_usable_is_not_matched() -> None:
    prediction = _prediction(1, 6)
    targets = Targets.of([torch.tensor([0, 1])], [prediction.boxes[0, :2].clone()])
    usable = torch.tensor([[False, False, True, True, True, True]])
    assert not {0, 1} & set(HungarianMatcher()(prediction, targets, usable).prediction.tolist())


def test_each_image_is_matched_with_its_own_objects_only() -> None:
    prediction = _prediction(3, 6)
    targets = Targets.of(
        [torch.tensor([1]), torch.zeros(0, dtype=torch.int64), torch.tensor([2, 3])],
        [prediction.boxes[0, 4:5], torch.zeros(0, 4), prediction.boxes[2, :2]],
    )
    match = HungarianMatcher(class_weight=0.0)(prediction, targets)
    assert match.image.tolist() == [0, 2, 2]
    assert match.prediction.tolist() == [4, 0, 1]


def test_losses_of_two_objects_of_two_images() -> None:
    """Worked out with plain numbers; every prediction without an object is pushed down in all its classes."""
    prediction, truth = _prediction(2, 2, classes=3), _prediction(2, 1, seed=1).boxes
    targets = Targets.of([torch.tensor([2]), torch.tensor([1])], list(truth))
    match = Match(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([0, 0]))
    found = set_losses(prediction, targets, match, 4.0)
    classes = l1 = giou = 0.0
    for image, chosen, label in ((0, 1, 2), (1, 0, 1)):
        for one, of_class in itertools.product(range(2), range(3)):
            p = 1 / (1 + math.exp(-float(prediction.logits[image, one, of_class])))
            hit = (one, of_class) == (chosen, label)
            classes += -0.25 * (1 - p) ** 2 * math.log(p) if hit else -0.75 * p**2 * math.log(1 - p)
        boxes = prediction.boxes[image, chosen].tolist(), truth[image, 0].tolist()
        l1 += _cost(0.0, *boxes, (0.0, 1.0, 0.0))
        giou += 1 + _cost(0.0, *boxes, (0.0, 0.0, 1.0))
    expected = {"loss_ce": classes / 4, "loss_bbox": l1 / 4, "loss_giou": giou / 4}
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_predictions_that_are_no_numbers_are_refused(wrong: float) -> None:
    prediction = _prediction(1, 3)
    prediction.boxes[0, 2, 1] = wrong
    targets = Targets.of([torch.tensor([0])], [_prediction(1, 1).boxes[0]])
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        HungarianMatcher()(prediction, targets)


def test_an_empty_image_only_teaches_that_there_is_nothing() -> None:
    prediction = _prediction(1, 6)
    prediction.logits.requires_grad_()
    match = HungarianMatcher()(prediction, NOTHING)
    losses = set_losses(prediction, NOTHING, match, 1.0)
    assert losses["loss_bbox"] == losses["loss_giou"] == 0
    losses["loss_ce"].backward()
    assert prediction.logits.grad is not None
    assert (prediction.logits.grad > 0).all()  # every score is pushed down


def test_a_perfect_prediction_costs_nothing() -> None:
    boxes = _prediction(1, 2).boxes
    logits = torch.full((1, 2, 5), -30.0)
    logits[0, 0, 3] = logits[0, 1, 1] = 30.0
    targets = Targets.of([torch.tensor([3, 1])], [boxes[0]])
    losses = set_losses(Prediction(logits, boxes), targets, HungarianMatcher()(Prediction(logits, boxes), targets), 2.0)
    assert [float(value) for value in losses.values()] == pytest.approx([0, 0, 0], abs=1e-6)


def test_predictions_that_do_not_count_have_no_class_loss() -> None:
    prediction = _prediction(1, 4)
    empty = torch.zeros(0, dtype=torch.int64)
    counted = torch.tensor([[True, False, True, True]])
    kept = Prediction(prediction.logits[:, counted[0]], prediction.boxes[:, counted[0]])
    match = Match(empty, empty, empty)
    found = set_losses(prediction, NOTHING, match, 1.0, counted)["loss_ce"]
    torch.testing.assert_close(found, set_losses(kept, NOTHING, match, 1.0)["loss_ce"])
