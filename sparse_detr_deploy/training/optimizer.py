"""AdamW and its learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from sparse_detr_deploy.training.config import PhaseConfig

# slower than the rest, as in Deformable DETR (a tenth there, for runs many times as long)
_SLOW, _SLOW_SCALE = ("sampling_offsets", "reference_points"), 0.3


def build_optimizer(model: nn.Module, phase: PhaseConfig) -> torch.optim.AdamW:
    """AdamW; norms and biases without weight decay, sampling offsets slower."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        scale = _SLOW_SCALE if any(part in name for part in _SLOW) else 1.0
        decay = phase.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((scale, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "scale": scale}
            for (scale, decay), parameters in groups.items()
        ],
        lr=phase.learning_rate,
        fused=True,
    )


def learning_rate(phase: PhaseConfig, step: int) -> float:
    """Rate of ``step`` (from 0): linear warm-up, constant, cosine to zero over the last ``decay_share`` of the steps."""
    if step < phase.warm_up:
        return phase.learning_rate * (step + 1) / phase.warm_up
    decay_steps = max(1, round(phase.steps * phase.decay_share))
    into = step - (phase.steps - decay_steps)
    if into <= 0:
        return phase.learning_rate
    return phase.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, into / decay_steps)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every group, times the group's scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
