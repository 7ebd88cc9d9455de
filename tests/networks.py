"""Small networks of every shape with what the original implementations gave for them (tests/data/networks)."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparse_detr_deploy.modeling import ModelConfig, SparseDETR, build_model
from tests.reference import recipe

FOLDER = Path(__file__).parent / "data" / "networks"
CASES = tuple(sorted(path.stem for path in FOLDER.glob("*.npz")))
# how the original says whether a one-stage network moves its references: by which of the two repositories it is
_REFINES = {"box_refinement": True}


@functools.cache
def load_case(case: str) -> dict[str, Any]:
    """All arrays of a case; ``config`` and ``state`` are parsed."""
    with np.load(FOLDER / f"{case}.npz") as file:
        arrays = {name: file[name] for name in file.files}
    return {**arrays, **{name: json.loads(str(arrays[name])) for name in ("config", "state")}}


def config(case: str) -> ModelConfig:
    values = load_case(case)["config"]
    return ModelConfig.from_mapping({**values, "num_classes": 20, "refine_references": _REFINES.get(case)})


def network(case: str) -> SparseDETR:
    """The network of a case with its weights."""
    return filled(config(case))


def filled(config: ModelConfig) -> SparseDETR:
    """A network with weights by rule: a tensor that has several names goes by the first of them in the alphabet."""
    model = build_model(config)
    fill(model)
    return model


@torch.no_grad()
def fill(model: nn.Module) -> None:
    done: set[int] = set()
    for name, tensor in sorted(model.state_dict().items()):
        if tensor.is_floating_point() and tensor.data_ptr() not in done:
            done.add(tensor.data_ptr())
            tensor.copy_(torch.from_numpy(values(name, tuple(tensor.shape))))


@functools.cache
def values(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Values by rule, kept: the cases share their backbones."""
    return np.asarray(recipe.tensor_values(name, shape), np.float32)


def padded_images(case: str, count: int | None = None) -> tuple[Tensor, Tensor]:
    """The first ``count`` images (all) of a case on one canvas [B, 3, H, W], and their sizes int64 [B, 2]."""
    sizes = load_case(case)["sizes"][:count]
    canvas = torch.zeros(len(sizes), 3, *sizes.max(0))
    for index, (height, width) in enumerate(sizes):
        canvas[index, :, :height, :width] = torch.from_numpy(recipe.image(f"{case}:{index}", height, width))
    return canvas, torch.from_numpy(sizes)
