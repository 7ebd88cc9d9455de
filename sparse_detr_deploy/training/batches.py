"""Batches of scenes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sparse_detr_deploy.images import Image
from sparse_detr_deploy.metadata import IMAGENET_MEAN, IMAGENET_STD
from sparse_detr_deploy.training.config import PASS_STRIDES
from sparse_detr_deploy.training.scenes import Scene, SceneSpec
from sparse_detr_deploy.training.targets import Targets


@dataclasses.dataclass(frozen=True)
class Batch:
    """``images`` [B, 3, H, W] float32 normalised, ``targets``, and ``name``, by which it can be made again."""

    images: Tensor
    targets: Targets
    name: str

    def to(self, device: torch.device) -> Batch:
        """The same on ``device``."""
        return Batch(self.images.to(device), self.targets.to(device), self.name)


_STRIDES = (1, *PASS_STRIDES)
_SEED_STEP = 2741  # runs with neighbouring seeds on one data set start far from each other


class SceneStream:
    """An endless stream of the scenes 0 … ``size − 1`` of ``source``, each made once and kept.

    Every pass goes through them in another order, from a place that the seed gives, and permutes their colour
    channels. Sample ``i`` follows from the seed and ``i`` alone, so a run can go on anywhere. Of ``workers`` processes
    each takes every ``workers``-th sample.
    """

    def __init__(
        self, source: Callable[[int], Scene], spec: SceneSpec, seed: int, size: int, rank: int = 0, workers: int = 1
    ) -> None:
        self.source, self.spec, self.seed, self.size = source, spec, seed, size
        self.rank, self.workers = rank, workers
        self._scenes: dict[int, Scene] = {}

    def batch(self, start: int, count: int) -> Batch:
        """This process's part of samples ``start`` … ``start + count − 1``."""
        samples = range(start + self.rank, start + count, self.workers)
        indices = [self._scene_index(sample) for sample in samples]
        scenes = [self._scene(index) for index in indices]
        images = [self._recolored(scene.image, sample) for scene, sample in zip(scenes, samples, strict=True)]
        return Batch(normalised(images), targets_of(scenes, self.spec), f"scenes {indices} of seed {self.seed}")

    def _scene_index(self, sample: int) -> int:
        epoch, position = divmod(sample, self.size)
        return (position + self.seed * _SEED_STEP) * _STRIDES[epoch % len(_STRIDES)] % self.size

    def _scene(self, index: int) -> Scene:
        if index not in self._scenes:
            self._scenes[index] = self.source(index)
        return self._scenes[index]

    def _recolored(self, image: Image, sample: int) -> Image:
        if sample < self.size:
            return image
        rng = np.random.default_rng([self.seed, sample])
        changed: Image = image[:, :, rng.permutation(3)]
        return changed


def normalised(images: list[Image]) -> Tensor:
    """uint8 RGB images [H, W, 3] of one size to float32 [B, 3, H, W], ImageNet-normalised."""
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (stacked - mean) / std


def targets_of(scenes: list[Scene], spec: SceneSpec) -> Targets:
    """Boxes in pixels to (cx, cy, w, h) in 0..1."""
    size = torch.tensor([spec.width, spec.height], dtype=torch.float32)
    boxes = []
    for scene in scenes:
        found = torch.from_numpy(scene.boxes)
        low, high = found[:, :2] / size, found[:, 2:] / size
        boxes.append(torch.cat([(low + high) / 2, high - low], dim=1))
    return Targets.of([torch.from_numpy(scene.labels) for scene in scenes], boxes)
