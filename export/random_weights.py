"""Networks with random weights, for benchmarks: no checkpoint is needed to measure speed."""

from __future__ import annotations

import zlib
from typing import Any

import torch

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.modeling import SparseDETR, build_model, sparse_config

ARCHITECTURES = {"r50": "resnet50", "swint": "swin-t", "thin18": "thin-resnet18"}


def random_model(architecture: str, seed: int = 0, rho: float = 0.3, **changes: Any) -> SparseDETR:
    """A network of the published shape with weights drawn by tensor name and ``seed``, scaled so that activations stay finite.

    Args:
        architecture: ``r50``, ``swint`` or ``thin18`` (the backbone of the demo).
        seed: the same seed gives the same weights on every machine.
        rho: trained keep ratio; 0 for a dense encoder.
        changes: fields of :class:`~sparse_detr_deploy.modeling.ModelConfig` to set otherwise.
    """
    if architecture not in ARCHITECTURES:
        raise InputError(f"the architecture {architecture!r} is not one of {', '.join(ARCHITECTURES)}")
    model = build_model(sparse_config(ARCHITECTURES[architecture], rho, **changes))
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(_values(name, tensor.shape, seed))
    model.source = {"random_weights": seed}
    return model


def _values(name: str, shape: torch.Size, seed: int) -> torch.Tensor:
    normal = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(f"{seed}:{name}".encode())))
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        return torch.add(1.0, normal.abs(), alpha=0.1)
    if leaf == "weight" and len(shape) == 1:
        return torch.add(1.0, normal, alpha=0.1)
    if len(shape) < 2:
        return normal.mul(0.1)
    fan_in = shape[1:].numel()
    return normal.mul(_gain(name) / fan_in**0.5)


def _gain(name: str) -> float:
    """Spread of a layer's outputs over that of its inputs; a trained network moves boxes and samples little by little."""
    if name.startswith("backbone"):
        return 1.4  # makes up for what ReLU takes away
    if "bbox_embed" in name and ".layers.2." in name:
        return 0.1
    return 0.5 if "sampling_offsets" in name else 1.0
