"""What is weighed, what counts for which head, and what a padded image asks of the scoring network."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sparse_detr_deploy.modeling.output import DetectorOutput, Prediction
from sparse_detr_deploy.modeling.token_grid import TokenGrid
from sparse_detr_deploy.training.criterion import Criterion, saliency_losses
from sparse_detr_deploy.training.cross_attention_map import Sampled
from sparse_detr_deploy.training.losses import set_losses
from sparse_detr_deploy.training.targets import Targets

SHAPES = ((2, 2), (1, 1))
TOKENS = 5


def predictions(count: int, seed: int, images: int = 2) -> Prediction:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(images, count, 4, generator=generator) * 0.4 + 0.1
    return Prediction(torch.randn(images, count, 3, generator=generator), boxes)


def two_images() -> Targets:
    """Two objects and one."""
    truth = predictions(2, 9).boxes
    return Targets.of([torch.tensor([2, 1]), torch.tensor([2])], [truth[0], truth[1, :1]])


def output(**parts: Any) -> DetectorOutput:
    last = predictions(4, 0)
    return DetectorOutput(last.logits, last.boxes, **parts)


def values(losses: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in losses.items()}


NAMES = ("loss_ce", "loss_bbox", "loss_giou", "loss_mask_prediction", "loss_softmax")


@pytest.mark.parametrize(("name", "weight"), zip(NAMES, (2, 5, 2, 1, 2), strict=True))
@pytest.mark.parametrize("suffix", ["", "_0", "_enc", "_enc_0", "_backbone"])
def test_every_head_has_the_published_weights(name: str, suffix: str, weight: float) -> None:
    losses = {f"{other}{suffix}": torch.tensor(0.0) for other in NAMES}
    losses[f"{name}{suffix}"] = torch.tensor(1.5)
    assert float(Criterion().total(losses)) == 1.5 * weight


def test_the_total_is_a_sum_and_weights_can_be_set() -> None:
    criterion = Criterion(class_weight=1, l1_weight=10, giou_weight=100, scoring_weight=1000, softmax_weight=10000)
    losses = {name: torch.tensor(float(factor)) for factor, name in enumerate(NAMES, start=1)}
    assert float(criterion.total({**losses, "loss_ce_0": torch.tensor(5.0)})) == 54326


def test_each_head_has_its_own_losses() -> None:
    """Every one divided by the objects of the batch."""
    heads = {suffix: predictions(4, seed) for seed, suffix in enumerate(("", "_0", "_1", "_enc", "_enc_0"))}
    criterion, targets = Criterion(), two_images()
    found = criterion(
        output(
            decoder_auxiliary=[heads["_0"], heads["_1"]],
            proposals=heads["_enc"],
            encoder_auxiliary=[heads["_enc_0"]],
        ),
        targets,
    )
    expected = {}
    for suffix, head in heads.items():
        match = criterion.matcher(head, targets)
        expected |= {f"{name}{suffix}": value for name, value in set_losses(head, targets, match, 3.0).items()}
    assert values(found) == pytest.approx(values(expected), rel=1e-6)
    assert len({round(value, 4) for value in values(found).values()}) == len(found) == 15
    halves = criterion(output(), targets, 6.0)
    assert values(halves) == pytest.approx({name: values(found)[name] / 2 for name in halves}, rel=1e-6)


def test_a_batch_of_nothing_is_divided_by_one() -> None:
    nothing = Targets.of([torch.zeros(0, dtype=torch.int64)] * 2, [torch.zeros(0, 4)] * 2)
    assert values(Criterion()(output(), nothing)) == values(Criterion()(output(), nothing, 1.0))


def test_a_first_stage_of_one_class_tells_object_or_not() -> None:
    """Its own labels are zero, those of all other heads stay."""
    head, targets = predictions(4, 3), two_images()
    one_class = Targets(torch.zeros_like(targets.labels), targets.boxes, targets.counts)
    given = output(proposals=head, decoder_auxiliary=[head])
    found = values(Criterion(specific_head=False)(given, targets))
    expected = values(Criterion()(given, targets))
    first_stage = values(Criterion().of(head, one_class, 3.0, "_enc"))
    assert first_stage["loss_ce_enc"] != pytest.approx(expected["loss_ce_enc"])
    assert found == pytest.approx(expected | first_stage, rel=1e-6)


def test_a_token_that_repeats_answers_once() -> None:
    """Where an image keeps fewer tokens than the other, its last one fills up: neither matched nor counted again."""
    head = predictions(4, 5)
    head.logits[0, 2:], head.boxes[0, 2:] = head.logits[0, 1].clone(), head.boxes[0, 1].clone()
    targets = Targets.of([torch.tensor([2]), torch.tensor([0])], [head.boxes[0, 1:2], head.boxes[1, 3:4]])
    selected = torch.tensor([[0, 7, 7, 7], [1, 2, 3, 9]])
    found = Criterion()(output(selected_tokens=selected, encoder_auxiliary=[head]), targets)
    usable = torch.tensor([[True, True, False, False], [True] * 4])
    expected = Criterion().of(head, targets, 2.0, "_enc_0", usable)
    assert values(found)["loss_ce_enc_0"] == pytest.approx(values(expected)["loss_ce_enc_0"])
    everything = Criterion().of(head, targets, 2.0, "_enc_0")
    assert values(found)["loss_ce_enc_0"] < values(everything)["loss_ce_enc_0"]


def looking_at(attention: torch.Tensor) -> list[Sampled]:
    """What a decoder of one layer samples that gives the tokens ``attention`` [B, N]: a query for each token."""
    images = len(attention)
    locations = torch.full((images, TOKENS, 1, len(SHAPES), 1, 2), 0.5)
    weights = torch.zeros(images, TOKENS, 1, len(SHAPES), 1)
    token = 0
    for level, (height, width) in enumerate(SHAPES):
        for row in range(height):
            for column in range(width):
                locations[:, token, 0, level, 0] = torch.tensor([column / width, row / height])
                weights[:, token, 0, level, 0] = attention[:, token]
                token += 1
    return [(locations, weights)]


def grid(**padding: torch.Tensor) -> TokenGrid:
    return TokenGrid(*[torch.zeros(1)] * 5, **padding)


ATTENTION = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 9.0, 9.0, 3.0]])
PADDING = {
    "is_image": torch.tensor([[1.0] * 5, [1, 1, 0, 0, 1]])[:, :, None],
    "valid_tokens": torch.tensor([5, 3]),
}


@pytest.mark.parametrize(
    ("padding", "ratio", "wanted"),
    [
        # int(0.5 · 5) + 1 of the first; int(0.5 · 3) + 1 of the second, whose padding gets the most attention
        (PADDING, 0.5, [[1, 1, 1, 0, 0], [0, 1, 0, 0, 1]]),
        (PADDING, 0.1, [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]),
        ({}, 0.5, [[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]]),
        ({}, 1.0, [[1] * 5, [1] * 5]),
        ({**PADDING, "valid_tokens": torch.tensor([5, 5])}, 1.0, [[1] * 5, [1] * 5]),
    ],
)
def test_the_tokens_that_are_wanted(padding: dict[str, torch.Tensor], ratio: float, wanted: list[list[int]]) -> None:
    """The loss is nothing where the scores are sure of just these, and much where one of them is missing."""
    scores = torch.tensor(wanted).float() * 60 - 30
    selected = torch.tensor([[0, 1, 1], [1, 4, 4]])
    given = output(token_scores=scores, selected_tokens=selected)
    losses, share = saliency_losses(given, looking_at(ATTENTION), grid(**padding), SHAPES, ratio)
    assert list(losses) == ["loss_mask_prediction"]
    assert float(losses["loss_mask_prediction"]) == pytest.approx(0, abs=1e-6)
    assert float(share) == pytest.approx((9 / 15 + 5 / 24) / 2)
    other = output(token_scores=scores.flip(1) if ratio < 1 else -scores, selected_tokens=selected)
    losses, _ = saliency_losses(other, looking_at(ATTENTION), grid(**padding), SHAPES, ratio)
    assert float(losses["loss_mask_prediction"]) > 1
