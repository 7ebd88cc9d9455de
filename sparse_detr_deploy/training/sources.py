"""Where a run's scenes come from: rendered, or a folder on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.training.coco_folder import CocoFolder
from sparse_detr_deploy.training.config import TrainingConfig
from sparse_detr_deploy.training.scenes import Scene, render_scene

SceneSource = Callable[[int], Scene]


def scene_source(config: TrainingConfig, split: str, count: int) -> SceneSource:
    """Scenes 0 … ``count − 1`` of ``split``, by index.

    Raises:
        InputError: the config's ``dataset`` folder is not usable, or has fewer than ``count`` images.
    """
    spec = config.scenes
    if not config.dataset:
        seed = config.val_seed if split == "val" else config.seed
        return lambda index: render_scene(spec, split, seed, index)
    folder = CocoFolder(Path(config.dataset), split, spec.height, spec.width)
    if len(folder) < count:
        key = "val_images" if split == "val" else "train_images"
        raise InputError(f"{folder.file} has {len(folder)} images, but {key} is {count}")
    return folder.scene


def check_sources(config: TrainingConfig) -> None:
    """Raise what :func:`scene_source` would raise in the course of a run."""
    for phase in (config.pretraining, config.training):
        if phase.steps:
            scene_source(config, "train", phase.train_images)
    scene_source(config, "val", config.val_images)
