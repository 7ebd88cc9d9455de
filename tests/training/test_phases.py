"""What a step of each phase learns from."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.training import phases
from sparse_detr_deploy.training.batches import Batch, SceneStream
from sparse_detr_deploy.training.config import TrainingConfig, config_from
from sparse_detr_deploy.training.criterion import Criterion
from sparse_detr_deploy.training.objectness import ObjectnessHead
from sparse_detr_deploy.training.phases import DensePhase, DetectorPhase
from sparse_detr_deploy.training.sources import scene_source
from sparse_detr_deploy.training.weights import initial_model
from tests.training.conftest import MODEL, tiny_values


def batch_of(config: TrainingConfig) -> Batch:
    return SceneStream(scene_source(config, "train", 8), config.scenes, 0, 8).batch(0, 2)


def network(config: TrainingConfig) -> SparseDETR:
    return initial_model(config.model, 0, config.saliency)


def test_the_first_steps_learn_the_classes_alone(tiny_config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {name: torch.tensor(1.0) for name in ("loss_ce", "loss_bbox", "loss_giou", "loss_softmax")}
    monkeypatch.setattr(phases, "dense_prediction", lambda *arguments: None)
    monkeypatch.setattr(phases, "dense_losses", lambda *arguments: losses)
    config = dataclasses.replace(tiny_config, classes_first=2)
    phase, batch = DensePhase(config, network(config)), batch_of(config)
    totals = []
    for step in range(4):
        total, told = phase(None, batch, 1.0, step)  # type: ignore[arg-type]
        totals.append(float(total))
        assert told == losses
    assert totals == [2.0, 2.0, 11.0, 11.0]  # 2 · softmax, then 2 · focal + 5 · L1 + 2 · GIoU + 2 · softmax


VARIANTS: dict[str, dict[str, Any]] = {
    "sparse": {},
    "dense": {"model": {**MODEL, "rho": 0.0, "use_enc_aux_loss": False}},
    "objectness": {"saliency": "objectness"},
    "one class": {"model": {**MODEL, "eff_specific_head": False}, "pretraining": {"steps": 0}},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_the_detector_learns_from_every_head_and_not_from_corr(changes: dict[str, Any]) -> None:
    config = config_from(tiny_values(**changes))
    model, batch = network(config), batch_of(config)
    phase = DetectorPhase(config, model)
    assert phase.criterion.specific_head == config.model.eff_specific_head
    total, losses = phase(model, batch, 3.0, 0)
    heads = ["", "_0", "_enc", *["_enc_0"] * config.model.use_enc_aux_loss]
    heads += ["_backbone"] * (config.saliency == "objectness")
    expected = {f"{name}{head}" for head in heads for name in ("loss_ce", "loss_bbox", "loss_giou")}
    if config.model.is_sparse:
        expected |= {"corr", *["loss_mask_prediction"] * (config.saliency == "dam")}
    assert set(losses) == expected
    learnt = {name: value for name, value in losses.items() if name != "corr"}
    torch.testing.assert_close(total, Criterion().total(learnt))
    total.backward()
    scorer = model.transformer.enc_mask_predictor if config.model.is_sparse else model.class_embed
    assert all(parameter.grad is not None for parameter in scorer.parameters())


def test_the_objects_of_all_processes_divide_the_losses(tiny_config: TrainingConfig) -> None:
    model, batch = network(tiny_config).eval(), batch_of(tiny_config)
    phase = DetectorPhase(tiny_config, model)
    with torch.no_grad():
        (_, one), (_, other) = phase(model, batch, 2.0, 0), phase(model, batch, 8.0, 0)
    assert float(one["loss_bbox_enc_0"]) == pytest.approx(4 * float(other["loss_bbox_enc_0"]))
    assert float(one["loss_mask_prediction"]) == float(other["loss_mask_prediction"])


def test_objectness_is_the_best_class_and_is_learnt_where_the_tokens_are() -> None:
    config = config_from(tiny_values(saliency="objectness"))
    model = network(config)
    grid = model.grid(96, 96)
    head: Any = model.transformer.enc_mask_predictor
    assert isinstance(head, ObjectnessHead)
    tokens = torch.randn(2, grid.proposals.shape[1], 32, generator=torch.Generator().manual_seed(0))
    scores = head(tokens)
    prediction = head.prediction(grid)
    assert torch.equal(scores, prediction.logits.max(-1).values)
    # before anything is learnt: one in a hundred is an object, and boxes are the proposals
    assert torch.equal(prediction.boxes, grid.proposals.sigmoid().expand(2, -1, -1))
    assert head(torch.zeros(1, 1, 32)).sigmoid().item() == pytest.approx(0.01)
    with torch.no_grad():
        for parameter in head.box_head.layers[-1].parameters():
            parameter.fill_(0.25)
    head(tokens)
    offsets = head.prediction(grid).boxes.logit() - grid.proposals
    inside = grid.is_proposal[0, :, 0] > 0
    torch.testing.assert_close(offsets[:, inside], head.box_head(tokens)[:, inside], rtol=1e-3, atol=1e-3)
    head.eval()
    head(tokens)
    assert head._last is None  # nothing is held where nothing is learnt
