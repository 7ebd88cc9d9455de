"""Trains and evaluates runs, several side by side, each in a process with one thread."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from sparse_detr_deploy.benchmarks.environment import describe_environment
from sparse_detr_deploy.benchmarks.paper.runs import PRETRAINING, run_config
from sparse_detr_deploy.child_processes import spawning
from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.export.publish import publish
from sparse_detr_deploy.export.torch_file import read_values
from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.plain_values import parse_json
from sparse_detr_deploy.regular_files import read_text
from sparse_detr_deploy.training.batches import normalised
from sparse_detr_deploy.training.coco import write_dataset
from sparse_detr_deploy.training.config import TrainingConfig
from sparse_detr_deploy.training.cross_attention_map import (
    cross_attention_map,
    recorded_cross_attention,
    selection_correlation,
)
from sparse_detr_deploy.training.evaluation import evaluate_scenes
from sparse_detr_deploy.training.parallel import follow_parent
from sparse_detr_deploy.training.run_folder import CHECKPOINT, LOG, STATE
from sparse_detr_deploy.training.run_log import RunLog
from sparse_detr_deploy.training.scenes import Scene
from sparse_detr_deploy.training.sources import scene_source
from sparse_detr_deploy.training.trainer import train
from sparse_detr_deploy.training.weights import inference_model

KEEP_RATIOS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
RESULT = "result.json"
_MOST_BYTES = 1 << 26
_BATCH = 20
_LOGGED = ("step", "loss", "corr")

Job = tuple[str, int]


class Laboratory:
    """A folder with the scenes, and a folder for each run: ``<name>_seed<seed>``, with ``result.json`` when it is done.

    Calling again goes on where the runs stopped.
    """

    def __init__(self, folder: Path, runs: dict[str, dict[str, Any]], jobs: int, say: Callable[[str], None]) -> None:
        self.folder, self.runs, self.jobs, self.say = folder, runs, jobs, say
        self.dataset = folder / "scenes"

    def place(self, job: Job) -> Path:
        """Folder of one run."""
        name, seed = job
        return self.folder / f"{name}_seed{seed}"

    def config(self, job: Job) -> TrainingConfig:
        """Config of one run. All but the pretraining start from the backbone of the pretraining's first seed."""
        name, seed = job
        backbone = None if name == PRETRAINING else self.place((PRETRAINING, 0)) / CHECKPOINT
        return run_config(self.runs[name], seed, self.dataset, backbone)

    def results(self, jobs: Iterable[Job]) -> Iterator[dict[str, Any]]:
        """Carry out ``jobs``, and the pretraining before them; gives each one's result as it is done."""
        todo = list(dict.fromkeys(jobs))
        first = (PRETRAINING, 0)
        configs = {job: self.config(job) for job in [first, *todo]}
        self._write_scenes(configs[first])
        context = multiprocessing.get_context("spawn")
        with spawning():
            pool = ProcessPoolExecutor(self.jobs, mp_context=context, initializer=follow_parent)
        try:
            for stage in ([first], todo):
                with spawning():
                    futures = [pool.submit(carry_out, job, configs[job], self.place(job)) for job in stage]
                for future in as_completed(futures):
                    result = future.result()
                    accuracy = ", ".join(f"AP {entry['AP']:.3f} at {entry['rho']}" for entry in result["evaluation"])
                    self.say(f"{result['name']} seed {result['seed']}, {result['seconds']:.0f} s: {accuracy}")
                    if stage is todo:
                        yield result
        finally:
            pool.shutdown(cancel_futures=True)  # after an error, what has not begun is not begun

    def _write_scenes(self, config: TrainingConfig) -> None:
        for split, count, seed in (
            ("train", config.pretraining.train_images, config.seed),
            ("val", config.val_images, config.val_seed),
        ):
            if not (self.dataset / f"{split}.json").is_file():
                self.say(f"writing {count} scenes ({split})")
                write_dataset(self.dataset, config.scenes, split, count, seed)


def carry_out(job: Job, config: TrainingConfig, folder: Path) -> dict[str, Any]:
    """Train and evaluate one run, or read its result where it is done.

    Raises:
        InputError: the result that is there is of another config.
    """
    path = folder / RESULT
    told = config.to_dict() | {"dataset": "", "backbone_weights": "" if job[0] == PRETRAINING else PRETRAINING}
    if path.is_file():
        result = _read_result(path)
        if result["config"] != json.loads(json.dumps(told)):
            raise InputError(f"{path} is of another config: remove {folder}, or give another folder to work in")
        return result
    torch.set_num_threads(1)
    train(config, folder)
    state = read_values(folder / STATE)
    model = inference_model(config.model, state["average"]["state"], config.saliency)
    source = scene_source(config, "val", config.val_images)
    scenes = [source(index) for index in range(config.val_images)]
    ratios: Iterable[float | None] = KEEP_RATIOS if config.model.is_sparse else (None,)
    entries = [entry for entry in RunLog(folder / LOG).entries() if entry["phase"] == "training" and "loss" in entry]
    result = {
        "name": job[0],
        "seed": job[1],
        "evaluation": [
            {"rho": ratio, **evaluate_scenes(model, scenes, ratio).to_dict(), "corr": correlation(model, scenes, ratio)}
            for ratio in ratios
        ],
        "log": [{key: entry[key] for key in _LOGGED if key in entry} for entry in entries],
        "seconds": state["seconds"],
        "config": told,
        "environment": describe_environment(),
    }
    with publish(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return _read_result(path)


def _read_result(path: Path) -> dict[str, Any]:
    try:
        result = parse_json(read_text(path, _MOST_BYTES))
        result["name"], result["seed"], result["seconds"], result["config"]
        [(entry["rho"], f"{entry['AP']:.3f}") for entry in result["evaluation"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no result of a run ({type(error).__name__}: {error}): move it away") from None
    checked: dict[str, Any] = result
    return checked


@torch.no_grad()
def correlation(model: SparseDETR, scenes: list[Scene], keep_ratio: float | None) -> float | None:
    """Corr: the share of the decoder's attention that falls on the selected tokens; ``None`` of a dense encoder."""
    if not model.config.is_sparse:
        return None
    total = 0.0
    for start in range(0, len(scenes), _BATCH):
        images = normalised([scene.image for scene in scenes[start : start + _BATCH]])
        with recorded_cross_attention(model) as sampled:
            output = model(images, keep_ratio=keep_ratio)
        shapes = model.level_shapes(*images.shape[2:])
        assert output.selected_tokens is not None
        attention = cross_attention_map(shapes, sampled)
        total += float(selection_correlation(attention, output.selected_tokens, shapes)[0].sum())
    return total / len(scenes)
