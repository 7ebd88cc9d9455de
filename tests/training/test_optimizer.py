"""Which parameters learn slower, which decay, and how far one step may go."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparse_detr_deploy.training.config import PhaseConfig, TrainingConfig
from sparse_detr_deploy.training.optimizer import (
    build_optimizer,
    learning_rate,
    set_learning_rate,
    set_weight_decay,
)
from sparse_detr_deploy.training.weights import initial_model

PHASE = PhaseConfig(steps=10, learning_rate=0.5, weight_decay=0.125, warm_up=4, decay_share=0.4)


def network() -> nn.Module:
    network = nn.Module()
    for name in ("sampling_offsets", "reference_points", "linear", "norm"):
        network.add_module(name, nn.LayerNorm(2) if name == "norm" else nn.Linear(2, 2))
    return network


def settings(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_offsets_and_references_learn_slower_and_only_matrices_decay() -> None:
    net = network()
    optimizer = build_optimizer(net, PHASE)
    set_learning_rate(optimizer, 0.5)
    assert settings(net, optimizer) == {
        "sampling_offsets.weight": (0.15, 0.125),
        "sampling_offsets.bias": (0.15, 0.0),
        "reference_points.weight": (0.15, 0.125),
        "reference_points.bias": (0.15, 0.0),
        "linear.weight": (0.5, 0.125),
        "linear.bias": (0.5, 0.0),
        "norm.weight": (0.5, 0.0),
        "norm.bias": (0.5, 0.0),
    }
    set_weight_decay(optimizer, 0.25)
    set_learning_rate(optimizer, 1.0)
    changed = settings(net, optimizer)
    assert changed["sampling_offsets.weight"] == (0.3, 0.25)
    assert changed["norm.weight"] == (1.0, 0.0)


def test_the_slow_ones_of_a_detector(tiny_config: TrainingConfig) -> None:
    """Every parameter learns, and those of the sampling offsets at 0.3 of the rate."""
    model = initial_model(tiny_config.model, 0)
    optimizer = build_optimizer(model, PHASE)
    set_learning_rate(optimizer, 1.0)
    found = settings(model, optimizer)
    assert set(found) == {name for name, _ in model.named_parameters()}
    slow = {name for name, (rate, _) in found.items() if rate == 0.3}
    layers = ("encoder.layers.0.self_attn", "encoder.layers.1.self_attn")
    layers += ("decoder.layers.0.cross_attn", "decoder.layers.1.cross_attn")
    assert slow == {f"transformer.{layer}.sampling_offsets.{part}" for layer in layers for part in ("weight", "bias")}
    assert {rate for rate, _ in found.values()} == {0.3, 1.0}


def test_the_rate_of_every_step() -> None:
    rates = [learning_rate(PHASE, step) for step in range(11)]
    # up in four steps, as it is up to the sixth, and down along a cosine in the last four
    expected = [0.125, 0.25, 0.375, 0.5, 0.5, 0.5, 0.5, 0.4267766953, 0.25, 0.0732233047, 0.0]
    assert rates == pytest.approx(expected)
    steady = PhaseConfig(steps=10, learning_rate=0.5, warm_up=0, decay_share=0.0)
    assert [learning_rate(steady, step) for step in range(10)] == [0.5] * 10
