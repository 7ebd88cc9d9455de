"""A run trains, can be stopped and gone on with, and refuses what it cannot do without losing what there is."""

from __future__ import annotations

import dataclasses
import errno
import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sparse_detr_deploy.errors import DivergenceError, InputError, OutputError, SparseDetrError
from sparse_detr_deploy.export.checkpoint import load_checkpoint
from sparse_detr_deploy.export.checkpoint_writer import save_official_checkpoint
from sparse_detr_deploy.modeling import build_model
from sparse_detr_deploy.training.config import TrainingConfig, config_from
from sparse_detr_deploy.training.phases import DensePhase, DetectorPhase
from sparse_detr_deploy.training.trainer import CHECKPOINT, LOG, STATE, Trainer, train
from tests.training.conftest import MODEL, tiny_values


def _log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def test_a_run_ends_in_a_checkpoint_of_the_official_layout(tiny_config: TrainingConfig, tmp_path: Path) -> None:
    path = train(tiny_config, tmp_path / "run")
    model = load_checkpoint(path)
    assert model.config == dataclasses.replace(tiny_config.model, refine_references=True)
    with torch.no_grad():
        output = model(torch.zeros(1, 3, 96, 96), keep_ratio=0.5)
    assert torch.isfinite(output.pred_logits).all()
    entries = _log(tmp_path / "run")
    assert [entry["phase"] for entry in entries if "loss" in entry] == ["pretraining"] * 2 + ["training"] * 3
    assert "loss_mask_prediction" in entries[2]
    assert 0 <= entries[2]["corr"] <= 1
    assert any("val" in entry for entry in entries)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tiny_config: TrainingConfig, tmp_path: Path) -> None:
    train(tiny_config, tmp_path / "whole")
    # stopped one step into the second phase, with a batch norm and an optimizer that have a past
    stopped = Trainer(tiny_config, tmp_path / "parts")
    (tmp_path / "parts").mkdir()
    stopped.run_phase("pretraining")
    stopped.config = dataclasses.replace(tiny_config, training=dataclasses.replace(tiny_config.training, steps=1))
    stopped.run_phase("training")
    train(tiny_config, tmp_path / "parts")
    whole, parts = (torch.load(tmp_path / name / STATE, weights_only=True) for name in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 3
    for key, value in whole["average"]["state"].items():
        torch.testing.assert_close(parts["average"]["state"][key], value, msg=key)


def test_when_a_run_saves_evaluates_and_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every so many steps of its phase, and the state at the end of each; only the second phase is evaluated."""
    done: list[tuple[str, str, int]] = []
    for name in ("save_state", "save_checkpoint", "evaluate"):
        note = functools.partial(lambda name, self: done.append((name, self.phase, self.step)), name)
        monkeypatch.setattr(Trainer, name, functools.partialmethod(lambda self, note: note(self), note))
    train(config_from(tiny_values(checkpoint_every=2, evaluate_every=2, log_every=2)), tmp_path)
    assert done == [
        ("save_state", "pretraining", 2),
        ("save_state", "pretraining", 2),
        ("evaluate", "training", 2),
        ("save_state", "training", 2),
        ("save_state", "training", 3),
        ("evaluate", "training", 3),
        ("save_checkpoint", "training", 3),
    ]
    assert [(entry["phase"], entry["step"], entry["images"]) for entry in _log(tmp_path)] == [
        ("pretraining", 2, 8),
        ("training", 2, 16),
    ]


def _first_loss(config: TrainingConfig, workers: int, evaluates: bool = False) -> float:
    """The mean of what each of ``workers`` computes of its part of the first batch, worked out in this process."""
    totals, objects = [], 0
    for rank in (None, *range(workers)):
        trainer = Trainer(config, Path(), rank or 0, 1 if rank is None else workers)
        trainer.phase = "training"
        batch = trainer.stream(config.training).batch(0, config.training.batch_size)
        if rank is None:
            objects = batch.targets.total
            continue
        model = trainer.model.eval() if evaluates else trainer.model
        with torch.no_grad():
            totals.append(DetectorPhase(config, model)(model, batch, objects / workers, 0)[0])
    return float(torch.stack(totals).mean())


def test_the_mean_of_two_workers_is_the_loss_of_one(tiny_config: TrainingConfig) -> None:
    """But for the statistics of the batch norms, which each has for itself and which rest in an evaluation."""
    assert _first_loss(tiny_config, 2, evaluates=True) == pytest.approx(_first_loss(tiny_config, 1, evaluates=True))


@pytest.mark.usefixtures("forked_workers")
def test_two_workers_train_and_go_on(tmp_path: Path) -> None:
    """Constant rate, so that the shorter run is the longer one's beginning."""
    states, losses = [], []
    for name, parts in (("whole", (3,)), ("parts", (2, 3))):
        for steps in parts:
            phase = {**tiny_values()["training"], "steps": steps, "decay_share": 0.0}
            config = config_from(tiny_values(workers=2, pretraining={"steps": 0}, training=phase))
            train(config, tmp_path / name)
        entries = [entry for entry in _log(tmp_path / name) if "loss" in entry]
        assert [entry["step"] for entry in entries] == list(range(1, parts[-1] + 1))
        losses.append([entry["loss"] for entry in entries])
        states.append(torch.load(tmp_path / name / STATE, weights_only=True))
    assert losses[0] == losses[1]
    assert losses[0][0] == pytest.approx(_first_loss(config, 2), rel=1e-4)
    for key, value in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][key], value, msg=key)
    assert states[0]["images"] == states[1]["images"] == 12


@pytest.mark.parametrize(
    "changes",
    [{"saliency": "objectness"}, {"model": {**MODEL, "rho": 0.0, "use_enc_aux_loss": False}}, {"ema_decay": 0.0}],
    ids=["objectness", "dense", "no average"],
)
def test_variants_of_the_method_train(changes: dict[str, Any], tmp_path: Path) -> None:
    train(config_from(tiny_values(**changes)), tmp_path)
    entries = [entry for entry in _log(tmp_path) if entry["phase"] == "training" and "loss" in entry]
    assert len(entries) == 3
    assert ("loss_ce_backbone" in entries[0]) == (changes.get("saliency") == "objectness")
    assert ("loss_mask_prediction" in entries[0]) == ("ema_decay" in changes)


def test_images_with_nothing_on_them_train(tmp_path: Path) -> None:
    scenes = {"height": 96, "width": 96, "objects": [0, 0], "sizes": [12, 48]}
    train(config_from(tiny_values(scenes=scenes)), tmp_path)
    last = [entry for entry in _log(tmp_path) if "loss" in entry][-1]
    assert last["loss_bbox"] == last["loss_giou"] == 0
    assert last["loss_ce"] > 0


def test_a_step_is_as_long_as_its_gradients_are_clipped(tiny_config: TrainingConfig, tmp_path: Path) -> None:
    """Of all parameters together; a norm below the limit stays as it is."""
    norms = []
    for limit in (1e-3, 1e6):
        phase = dataclasses.replace(tiny_config.pretraining, steps=1, clip_norm=limit)
        trainer = Trainer(dataclasses.replace(tiny_config, pretraining=phase), tmp_path)
        trainer._step(DensePhase(trainer.config, trainer.model), phase)
        gradients = [parameter.grad for parameter in trainer.model.parameters() if parameter.grad is not None]
        norms.append(float(torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()))
    assert norms[0] == pytest.approx(1e-3, rel=1e-3)
    assert 0.1 < norms[1] < 1e6


class Infinite(torch.autograd.Function):
    """Finite forward, infinite backward."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return gradients[0] * float("inf")


TOTAL = "sparse_detr_deploy.training.phases.Criterion.total"


@pytest.mark.parametrize(
    ("total", "what"),
    [
        (lambda self, losses: losses["loss_ce"] * float("nan"), "a loss of nan"),
        (lambda self, losses: Infinite.apply(losses["loss_ce"]), "gradients of norm (inf|nan)"),
    ],
    ids=["loss", "gradients"],
)
def test_a_run_that_diverges_stops_and_names_the_batch(
    total: Any, what: str, tiny_config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config_from(tiny_values(training={"steps": 0})), tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes(), (tmp_path / STATE).read_bytes()
    monkeypatch.setattr(TOTAL, total)
    where = r"at step 0 of training, on scenes \[0, 7, 6, 5\] of seed 0; the last state in .* go on"
    with pytest.raises(DivergenceError, match=f"{what} {where}"):
        train(tiny_config, tmp_path)
    assert ((tmp_path / CHECKPOINT).read_bytes(), (tmp_path / STATE).read_bytes()) == before


def test_weights_that_are_no_numbers_stop_the_run(
    tiny_config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They reach the matcher before there is a loss."""
    trainer = Trainer(config_from(tiny_values(pretraining={"steps": 0})), tmp_path)
    with torch.no_grad():
        trainer.model.transformer.level_embed.fill_(float("nan"))
    with pytest.raises(DivergenceError, match="predictions that are NaN or infinite at step 0 .* no state was written"):
        trainer.run_phase("training")


def test_more_queries_than_tokens(tmp_path: Path) -> None:
    config = config_from(tiny_values(model={**MODEL, "num_queries": 300}))
    with pytest.raises(InputError, match="num_queries is 300, but scenes of 96×96 have only 193 tokens"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_log_line_cut_off_by_a_kill(tiny_config: TrainingConfig, tmp_path: Path) -> None:
    train(config_from(tiny_values(training={"steps": 0})), tmp_path)
    with (tmp_path / LOG).open("a") as file:
        file.write('{"phase": "trai')
    train(tiny_config, tmp_path)
    steps = [entry["step"] for entry in _log(tmp_path) if entry["phase"] == "training" and "loss" in entry]
    assert steps == [1, 2, 3]


def test_a_finished_run_is_evaluated_once(tiny_config: TrainingConfig, tmp_path: Path) -> None:
    train(tiny_config, tmp_path)
    before = _log(tmp_path)
    assert sum("val" in entry for entry in before) == 1
    train(tiny_config, tmp_path)
    assert _log(tmp_path) == before


def test_a_full_disk_is_told_and_leaves_the_state(
    tiny_config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config_from(tiny_values(training={"steps": 0})), tmp_path)
    before = (tmp_path / STATE).read_bytes()

    def full(self: Path, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="no space left for .*state.pt"):
        train(tiny_config, tmp_path)
    assert (tmp_path / STATE).read_bytes() == before


def test_a_changed_weight_decay_counts_after_resume(tiny_config: TrainingConfig, tmp_path: Path) -> None:
    train(tiny_config, tmp_path)
    phase = dataclasses.replace(tiny_config.training, weight_decay=0.25)
    trainer = Trainer(dataclasses.replace(tiny_config, training=phase), tmp_path)
    trainer.resume()
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {0.0, 0.25}


def test_resume_of_another_architecture_is_refused(tiny_config: TrainingConfig, tmp_path: Path) -> None:
    train(tiny_config, tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    other = config_from(tiny_values(model={**MODEL, "hidden_dim": 64}))
    with pytest.raises(InputError, match="another model"):
        train(other, tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_damaged_state_is_refused(tiny_config: TrainingConfig, tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(InputError, match="damaged"):
        train(tiny_config, tmp_path)


def test_a_run_starts_from_the_backbone_of_another(tiny_config: TrainingConfig, tmp_path: Path) -> None:
    start = train(config_from(tiny_values(training={"steps": 0})), tmp_path / "first")
    wanted = load_checkpoint(start).backbone.state_dict()
    model = {**MODEL, "hidden_dim": 64, "enc_layers": 3}
    config = config_from(tiny_values(backbone_weights=str(start), pretraining={"steps": 0}, seed=1, model=model))
    trainer = Trainer(config, tmp_path / "second")
    found = trainer.model.backbone.state_dict()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, msg=key)
    before = {key: value.clone() for key, value in found.items()}
    train(config, tmp_path / "second")
    after = torch.load(tmp_path / "second" / STATE, weights_only=True)["model"]
    learnt = [key for key, value in before.items() if not torch.equal(after[f"backbone.{key}"], value)]
    assert any(key.endswith("conv1.weight") for key in learnt)


def test_a_backbone_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SparseDetrError, match=r"absent\.pth"):
        train(config_from(tiny_values(backbone_weights=str(tmp_path / "absent.pth"))), tmp_path / "run")
    assert not (tmp_path / "run" / STATE).exists()


def test_a_backbone_of_another_kind(tiny_config: TrainingConfig, tmp_path: Path) -> None:
    weights = save_official_checkpoint(build_model(tiny_config.model), tmp_path / "thin.pth")
    config = config_from(tiny_values(backbone_weights=str(weights), model={**MODEL, "backbone": "resnet50"}))
    with pytest.raises(InputError, match="has the backbone thin-resnet18, not resnet50"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / STATE).exists()
