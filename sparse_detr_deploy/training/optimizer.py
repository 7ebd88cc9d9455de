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
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}  # by scale, and whether their weights decay
    for name, parameter in model.named_parameters():
        scale = _SLOW_SCALE if any(part in name for part in _SLOW) else 1.0
        groups.setdefault((scale, parameter.ndim > 1), []).append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": parameters, "scale": scale} for (scale, _), parameters in groups.items()],
        lr=phase.learning_rate,
        fused=True,
    )
    set_weight_decay(optimizer, phase.weight_decay)
    return optimizer


def set_weight_decay(optimizer: torch.optim.Optimizer, decay: float) -> None:
    """Set the weight decay of the groups that have one (loading a state brings the old one back)."""
    for group in optimizer.param_groups:
        group["weight_decay"] = decay if group["params"][0].ndim > 1 else 0.0


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
