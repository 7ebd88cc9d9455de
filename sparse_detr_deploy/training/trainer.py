"""The training loop: both phases of a run, resumable, one log line every few steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_detr_deploy.errors import DivergenceError, InputError
from sparse_detr_deploy.export.checkpoint_writer import save_official_checkpoint
from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.training.batches import SceneStream
from sparse_detr_deploy.training.config import PhaseConfig, TrainingConfig
from sparse_detr_deploy.training.evaluation import evaluate_scenes
from sparse_detr_deploy.training.native_attention import load_kernel, use_native_attention
from sparse_detr_deploy.training.optimizer import build_optimizer, learning_rate, set_learning_rate, set_weight_decay
from sparse_detr_deploy.training.parallel import average_gradients, launch, mean_over_workers
from sparse_detr_deploy.training.phases import PHASES, DensePhase, DetectorPhase
from sparse_detr_deploy.training.run_folder import CHECKPOINT, LOG, STATE, run_folder
from sparse_detr_deploy.training.run_log import RunLog
from sparse_detr_deploy.training.run_state import read_state, reports_damage, write_state
from sparse_detr_deploy.training.sources import check_sources, scene_source
from sparse_detr_deploy.training.weights import MovingAverage, check_canvas, inference_model, initial_model

_OBJECTIVES: dict[str, Callable[[TrainingConfig, SparseDETR], DensePhase | DetectorPhase]]
_OBJECTIVES = {"pretraining": DensePhase, "training": DetectorPhase}
_log = logging.getLogger(__name__)


def train(config: TrainingConfig, folder: str | Path) -> Path:
    """Train, or go on where ``folder``'s state stopped; returns the path of the checkpoint (official layout).

    ``folder`` gets ``state.pt`` (to go on from), ``log.jsonl`` and ``checkpoint.pth`` (averaged weights). It is new,
    empty, or the folder of a run, and has one run at a time.

    Raises:
        InputError: the state in ``folder`` is of another run, or the config's data set or backbone is not usable.
        CheckpointError: the config's ``backbone_weights`` cannot be read.
        DivergenceError: the loss became NaN or infinite; the last state stays.
        OutputError: the folder cannot be written to, holds files of somebody else, or another run goes on in it.
    """
    folder = Path(folder)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError('device is "cuda", but PyTorch finds no GPU here: set device = "cpu"')
    check_canvas(config.model, config.scenes.height, config.scenes.width)
    check_sources(config)
    with run_folder(folder):
        if config.native_attention:
            load_kernel()  # once, before the workers start
        launch(config.workers, _run, config, folder)
    return folder / CHECKPOINT


def _run(rank: int, workers: int, config: TrainingConfig, folder: Path) -> None:
    trainer = Trainer(config, folder, rank, workers)
    trainer.resume()
    for phase in PHASES[PHASES.index(trainer.phase) :]:
        trainer.run_phase(phase)
    if rank == 0:
        trainer.evaluate()
        trainer.save_checkpoint()


def _told(values: dict[str, Any]) -> str:
    """What a person watching wants to know of a log line."""
    if "val" in values:
        return "validation " + ", ".join(f"{name} {value:.3f}" for name, value in values["val"].items())
    return ", ".join(
        f"{name} {values[name]:.3f}" for name in ("loss", "loss_ce", "loss_giou", "corr") if name in values
    )


class Trainer:
    """State of a run: weights, their average, optimizer, phase, step and images seen."""

    def __init__(self, config: TrainingConfig, folder: Path, rank: int = 0, workers: int = 1) -> None:
        self.config, self.folder, self.rank, self.workers = config, folder, rank, workers
        self.device = torch.device(config.device)
        model = initial_model(config.model, config.seed, config.saliency, config.backbone_weights)
        self.model = model.to(self.device)
        self.model.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.native_attention:
            use_native_attention(self.model)
        self.average = MovingAverage(self.model, config.ema_decay)
        self.phase, self.step, self.images = PHASES[0], 0, 0
        self.optimizer = build_optimizer(self.model, self._phase_config(self.phase))
        self.seconds = 0.0
        self.log = RunLog(folder / LOG)
        self.streams: dict[str, SceneStream] = {}

    def _phase_config(self, phase: str) -> PhaseConfig:
        return self.config.pretraining if phase == "pretraining" else self.config.training

    def run_phase(self, phase: str) -> None:
        """All steps of ``phase`` that are left."""
        if phase != self.phase:
            self.phase, self.step = phase, 0
            self.optimizer = build_optimizer(self.model, self._phase_config(phase))
        settings = self._phase_config(phase)
        objective = _OBJECTIVES[phase](self.config, self.model)
        sums: dict[str, Tensor] = {}
        counted = 0
        started = time.perf_counter()
        while self.step < settings.steps:
            found = self._step(objective, settings)
            for name, value in found.items():
                sums[name] = sums[name] + value.detach() if name in sums else value.detach()
            counted += 1
            every = self.config
            if self.step % every.log_every == 0:
                self.seconds += time.perf_counter() - started
                started = time.perf_counter()
                means = {name: mean_over_workers(float(v) / counted, self.workers) for name, v in sums.items()}
                self._write_log(means, settings)
                sums, counted = {}, 0
            if self.rank == 0 and phase == "training" and self.step % every.evaluate_every == 0:
                self.evaluate()
            if self.rank == 0 and self.step % every.checkpoint_every == 0:
                self.save_state()
        self.seconds += time.perf_counter() - started
        if self.rank == 0:
            self.save_state()

    def _step(self, objective: DensePhase | DetectorPhase, settings: PhaseConfig) -> dict[str, Tensor]:
        batch = self.stream(settings).batch(self.images, settings.batch_size).to(self.device)
        num_boxes = max(mean_over_workers(batch.targets.total, self.workers), 1.0 / self.workers)
        set_learning_rate(self.optimizer, learning_rate(settings, self.step))
        try:
            total, losses = objective(self.model, batch, num_boxes, self.step)
        except FloatingPointError as error:
            raise self._diverged(str(error), batch.name) from None
        if not bool(torch.isfinite(total)):
            raise self._diverged(f"a loss of {float(total.detach())}", batch.name)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        average_gradients(self.model.parameters(), self.workers)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        if not bool(torch.isfinite(norm)):  # clipping has made NaN of every gradient
            raise self._diverged(f"gradients of norm {float(norm)}", batch.name)
        self.optimizer.step()
        if self.rank == 0:
            self.average.update(self.model)
        self.step += 1
        self.images += settings.batch_size
        return {"loss": total, **losses}

    def _diverged(self, what: str, batch: str) -> DivergenceError:
        path = self.folder / STATE
        mend = f"the last state in {path} is from before: lower learning_rate or clip_norm and go on from it"
        if not path.is_file():
            mend = "no state was written yet: lower learning_rate or clip_norm and start anew"
        return DivergenceError(f"{what} at step {self.step} of {self.phase}, on {batch}; {mend}")

    def stream(self, settings: PhaseConfig) -> SceneStream:
        """The training scenes of the present phase."""
        if self.phase not in self.streams:
            self.streams[self.phase] = SceneStream(
                scene_source(self.config, "train", settings.train_images),
                self.config.scenes,
                self.config.seed,
                settings.train_images,
                self.rank,
                self.workers,
            )
        return self.streams[self.phase]

    def evaluate(self) -> None:
        """Log the average precision of the averaged weights, once."""
        if any("val" in entry and entry["images"] == self.images for entry in self.log.entries()):
            return
        started = time.perf_counter()
        config = self.config
        source = scene_source(config, "val", config.val_images)
        accuracy = evaluate_scenes(self.evaluated_model(), [source(index) for index in range(config.val_images)])
        values = {name: value for name, value in accuracy.values.items() if value is not None}
        self._append({"val": {name: round(value, 4) for name, value in values.items()}}, time.perf_counter() - started)

    def evaluated_model(self) -> SparseDETR:
        """The averaged weights (the present ones without averaging) as a network in eval mode."""
        state = self.average.state if self.config.ema_decay else self.model.state_dict()
        state = {key: value.cpu() for key, value in state.items()}
        return inference_model(self.config.model, state, self.config.saliency)

    def _write_log(self, losses: dict[str, float], settings: PhaseConfig) -> None:
        if self.rank == 0:
            rate = learning_rate(settings, self.step - 1)
            self._append(
                {"learning_rate": float(f"{rate:.3g}"), **{key: round(v, 4) for key, v in losses.items()}}, None
            )

    def _append(self, values: dict[str, Any], seconds: float | None) -> None:
        entry = {"phase": self.phase, "step": self.step, "images": self.images, "seconds": round(self.seconds, 1)}
        if seconds is not None:
            entry["evaluation_seconds"] = round(seconds, 1)
        self.log.append({**entry, **values})
        of = self._phase_config(self.phase).steps
        _log.info("%s %d/%d, %d s: %s", self.phase, self.step, of, self.seconds, _told(values))

    def save_checkpoint(self) -> None:
        """Write the averaged weights in the official layout."""
        model = self.evaluated_model()
        save_official_checkpoint(model.half() if self.config.half_checkpoint else model, self.folder / CHECKPOINT)

    def save_state(self) -> None:
        """Write everything that going on needs, and the checkpoint of now."""
        state = {
            "config": self.config.to_dict(),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "phase": self.phase,
            "step": self.step,
            "images": self.images,
            "seconds": self.seconds,
        }
        write_state(self.folder / STATE, state)
        self.save_checkpoint()

    def resume(self) -> None:
        """Go on from the folder's state, where there is one.

        Raises:
            InputError: it is damaged, or of another architecture or seed.
        """
        path = self.folder / STATE
        if not path.is_file():
            if self.rank == 0:
                self.log.keep(-1)
            return
        state = read_state(path, self.config.to_dict(), self.device)
        with reports_damage(path):
            self._restore(state)
        if self.rank == 0:
            self.log.keep(self.images)
        _log.info("going on from %s: %s, step %d", path, self.phase, self.step)

    def _restore(self, state: dict[str, Any]) -> None:
        self.phase, self.step, self.images = state["phase"], state["step"], state["images"]
        self.seconds = state["seconds"]
        self.optimizer = build_optimizer(self.model, self._phase_config(self.phase))
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        set_weight_decay(self.optimizer, self._phase_config(self.phase).weight_decay)
        self.average.load_state_dict(state["average"])
