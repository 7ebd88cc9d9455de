"""Average precision of a network on validation scenes, through PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse_detr_deploy.benchmarks.accuracy import Accuracy, evaluate
from sparse_detr_deploy.detections import Detections
from sparse_detr_deploy.errors import CheckpointError, InputError
from sparse_detr_deploy.export.checkpoint import load_checkpoint
from sparse_detr_deploy.export.checkpoint_file import read_checkpoint
from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.postprocessing import best_pairs
from sparse_detr_deploy.preprocessing import to_pixels
from sparse_detr_deploy.training.batches import normalised
from sparse_detr_deploy.training.coco import coco_dataset
from sparse_detr_deploy.training.config import TrainingConfig
from sparse_detr_deploy.training.scenes import Scene
from sparse_detr_deploy.training.sources import scene_source
from sparse_detr_deploy.training.weights import inference_model

_DETECTIONS = 100
_BATCH = 20


@torch.no_grad()
def evaluate_scenes(
    model: SparseDETR,
    scenes: Sequence[Scene],
    keep_ratio: float | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> Accuracy:
    """COCO average precision of ``model`` on ``scenes`` of one size."""
    found: dict[int, Detections] = {}
    for start in range(0, len(scenes), _BATCH):
        progress(f"image {start + 1} of {len(scenes)}")
        part = scenes[start : start + _BATCH]
        output = model(normalised([scene.image for scene in part]), keep_ratio=keep_ratio)
        logits, boxes = output.pred_logits.numpy(), output.pred_boxes.numpy()
        for index, scene in enumerate(part):
            pairs, scores, labels = best_pairs(logits[index], boxes[index], _DETECTIONS)
            height, width = scene.image.shape[:2]
            pixels = to_pixels(np.ascontiguousarray(pairs), (height, width))
            found[start + index] = Detections(pixels, scores, labels, (height, width), None)
    return evaluate(coco_dataset(scenes), found)


def evaluate_checkpoint(
    path: Path, config: TrainingConfig, keep_ratios: Sequence[float] = (), images: int | None = None
) -> Iterator[dict[str, Any]]:
    """Average precision of a checkpoint on the validation scenes of ``config``, one entry for each keep ratio.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        InputError: it has other classes than the scenes, or a keep ratio cannot be set.
    """
    model = _network(path, config)
    if model.config.num_classes != config.model.num_classes:
        raise InputError(
            f"{path} tells {model.config.num_classes} classes apart, but the scenes have {config.model.num_classes}"
        )
    count = images or config.val_images
    source = scene_source(config, "val", count)
    scenes = [source(index) for index in range(count)]
    trained: list[float | None] = [model.config.rho if model.config.is_sparse else None]
    for ratio in keep_ratios or trained:
        yield {"rho": ratio, **evaluate_scenes(model, scenes, ratio).to_dict()}


def _network(path: Path, config: TrainingConfig) -> SparseDETR:
    if config.saliency != "objectness":
        return load_checkpoint(path)
    try:
        return inference_model(config.model, read_checkpoint(path).tensors, config.saliency)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the config, whose saliency is objectness: {error}") from None
