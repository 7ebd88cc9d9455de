"""Reference outputs of the original implementation (tests/data/reference) on weights and images made by rule."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).parent / "data" / "reference"
sys.path.insert(0, str(FOLDER))
import recipe  # noqa: E402

_LAYOUTS = {
    "r50_sparse_rho30": "r50_sparse (rho 0.1 .. 0.5)",
    "r50_sparse_rho10_batch2": "r50_sparse (rho 0.1 .. 0.5)",
    "swint_sparse_rho30": "swint_sparse (rho 0.1 .. 0.5)",
    "r50_efficient": "r50_efficient",
    "r50_deformable_two_stage": "r50_deformable_two_stage",
}
CASES = tuple(_LAYOUTS)
SPARSE_CASES = tuple(case for case in CASES if "sparse" in case)


@functools.cache
def load_case(case: str) -> dict[str, Any]:
    """All arrays of a case; ``config`` is the parsed dictionary."""
    with np.load(FOLDER / f"{case}.npz") as file:
        arrays = {name: file[name] for name in file.files}
    return {**arrays, "config": json.loads(str(arrays["config"]))}


def layout(case: str) -> dict[str, dict[str, Any]]:
    """Keys of the official state dict with shape, dtype and ``same_as``."""
    result: dict[str, dict[str, Any]] = json.loads((FOLDER / "checkpoint_layouts.json").read_text())[_LAYOUTS[case]]
    return result


@functools.cache
def state_dict(case: str) -> dict[str, torch.Tensor]:
    """The official ``model`` state dict of a case, aliases sharing their tensor as in a real file."""
    tensors: dict[str, torch.Tensor] = {}
    result = {}
    for key, entry in layout(case).items():
        source = entry.get("same_as") or key
        if entry["dtype"] == "int64":
            result[key] = _relative_position_index()
            continue
        if source not in tensors:
            tensors[source] = torch.from_numpy(np.asarray(recipe.tensor_values(source, entry["shape"]), np.float32))
        result[key] = tensors[source]
    return result


def _relative_position_index() -> torch.Tensor:
    from sparse_detr_deploy.modeling.backbones.swin import WindowAttention

    return WindowAttention(96, 3).relative_position_index.clone()


def official_checkpoint(case: str, folder: Path) -> Path:
    """A file in the official layout: model, optimizer, args."""
    path = folder / f"{case}.pth"
    defaults = {
        **{"lr": 2e-4, "num_queries": 300, "hidden_dim": 256, "nheads": 8, "enc_layers": 6, "dec_layers": 6},
        **{"backbone": "resnet50", "dilation": False, "rho": 0.0, "dataset_file": "coco"},
        **{"eff_query_init": False, "eff_specific_head": False},
    }
    args = argparse.Namespace(**{**defaults, **load_case(case)["config"]})
    torch.save({"model": state_dict(case), "optimizer": {"state": {}}, "epoch": 49, "args": args}, path)
    return path


def images(case: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded float32 images [B, 3, H, W] and their sizes int64 [B, 2]."""
    sizes = load_case(case)["sizes"]
    canvas = torch.zeros(len(sizes), 3, *sizes.max(0))
    for index, (height, width) in enumerate(sizes):
        canvas[index, :, :height, :width] = torch.from_numpy(recipe.image(f"{case}:{index}", height, width))
    return canvas, torch.from_numpy(sizes)
