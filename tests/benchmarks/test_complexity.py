"""The published multiply-adds, and the backbones counted by torch itself."""

from __future__ import annotations

import json
from math import prod
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

from sparse_detr_deploy.benchmarks.cli import main
from sparse_detr_deploy.modeling import ModelConfig, build_model
from sparse_detr_deploy.modeling.complexity import Complexity, count

# README of kakaobrain/sparse-detr, tables "GFLOPs"
SPARSE = {"r50": (105.4, 112.9, 120.5, 128.0, 135.6), "swint": (113.4, 121.0, 128.5, 136.1, 143.7)}
DENSE = {
    ("r50", "efficient"): 177.3,
    ("r50", "deformable"): 172.9,
    ("swint", "efficient"): 184.8,
    ("swint", "deformable"): 180.4,
}


def flops(*arguments: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(main, ["flops", *arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows


@pytest.mark.parametrize("architecture", ["r50", "swint"])
def test_published_sparse_rows(architecture: str) -> None:
    ratios = [0.1, 0.2, 0.3, 0.4, 0.5]
    rows = flops("--architecture", architecture, "--size", "800x1066", *(f"--rho={ratio}" for ratio in ratios))
    assert [set(row) for row in rows] == [{"name", "rho", "tokens", "kept", "gmacs", "params"}] * 5
    assert [row["rho"] for row in rows] == ratios
    assert [round(row["gmacs"], 1) for row in rows] == list(SPARSE[architecture])
    assert rows[2]["name"] == f"{architecture}_rho30_800x1066"
    assert rows[2]["tokens"] == 17821
    assert rows[2]["kept"] == 5347


@pytest.mark.parametrize(("architecture", "variant"), DENSE)
def test_published_dense_rows(architecture: str, variant: str) -> None:
    (row,) = flops("--architecture", architecture, "--size", "850x1040", "--dense", "--variant", variant)
    assert row["rho"] is None
    assert row["kept"] == row["tokens"]
    assert round(row["gmacs"], 1) == DENSE[architecture, variant]


def test_parameters_are_counted_once() -> None:
    # published: 40.9 and 40.8 million trainable ones; the frozen first stage of the backbone has 222,400 more
    rows = flops("--architecture", "r50", "--rho", "0.3", "--dense")
    assert [row["name"].split("_")[1] for row in rows] == ["rho30", "dense", "deformable"]
    assert [round((row["params"] - 222_400) / 1e6, 1) for row in rows[:2]] == [40.9, 40.8]


def test_both_conventions_for_people() -> None:
    result = CliRunner().invoke(main, ["flops", "--architecture", "r50", "--dense"])
    assert result.stdout == ""
    assert "170.3" in result.stderr
    assert "340.6" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--rho"),
        (["--rho", "0"], "keep ratio"),
        (["--rho", "nan"], "keep ratio"),
        (["--rho", "0.3", "--variant", "deformable"], "--dense"),
        (["--dense", "--size", "800"], "HEIGHTxWIDTH"),
        (["--dense", "--size", "40x40"], "tokens"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["flops", "--architecture", "r50", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(),
        ModelConfig(dilation=True),
        ModelConfig(backbone="resnet101", num_feature_levels=5),
        ModelConfig(num_feature_levels=1),
        ModelConfig(backbone="swin-t"),
        ModelConfig(backbone="thin-resnet18"),
    ],
    ids=lambda config: f"{config.short_name}-{config.num_feature_levels}{'-dc5' if config.dilation else ''}",
)
def test_backbone_and_projections_as_torch_counts_them(config: ModelConfig) -> None:
    config = ModelConfig(**{**config.to_dict(), "enc_layers": 0, "dec_layers": 0, "num_queries": 0})
    with torch.device("meta"):
        model = build_model(config)
    height, width = 203, 331
    counter = norms_and_samples_too()
    with counter, torch.no_grad():
        model.tokens(torch.zeros(1, 3, height, width, device="meta"))
    counted = count(config, height, width, model.level_shapes(height, width))
    assert counted.per_kept_token == 0
    assert counted.fixed == counter.get_total_flops() // 2


def norms_and_samples_too() -> FlopCounterMode:
    """What torch counts, and 5 for each element of a norm and 4 for each bilinear sample, as fvcore counts them."""
    aten = torch.ops.aten
    samples = {aten.grid_sampler_2d: lambda image, grid, *others, **more: 2 * 4 * prod(image[:2]) * prod(grid[1:3])}
    norms = dict.fromkeys(
        (aten.native_layer_norm, aten.native_group_norm), lambda shape, *others, **more: 10 * prod(shape)
    )
    return FlopCounterMode(display=False, custom_mapping={**samples, **norms})


TINY = {
    "backbone": "thin-resnet18",
    "num_classes": 7,
    "num_queries": 5,
    "num_feature_levels": 3,
    "hidden_dim": 32,
    "nheads": 4,
    "enc_layers": 2,
    "dec_layers": 2,
    "dim_feedforward": 64,
    "enc_n_points": 2,
    "dec_n_points": 3,
}


@pytest.mark.parametrize(
    "changes",
    [{}, {"nheads": 2, "enc_layers": 1, "enc_n_points": 3, "dec_n_points": 1, "num_feature_levels": 4}],
    ids=str,
)
def test_a_dense_one_stage_network_as_torch_counts_it(changes: dict[str, Any]) -> None:
    """With the heads of every decoder layer, which the published count has."""
    config = ModelConfig(**{**TINY, **changes})
    model = build_model(config).eval().requires_grad_(False)
    shapes = ((12, 16), (6, 8), (3, 4), (2, 2))[: config.num_feature_levels]
    assert model.level_shapes(96, 128) == shapes
    counter = norms_and_samples_too()
    with counter, torch.no_grad():
        model(torch.zeros(1, 3, 96, 128), auxiliary=True)
    assert count(config, 96, 128, shapes).fixed == counter.get_total_flops() // 2


SHAPES = ((4, 3), (2, 2), (1, 1))  # 17 tokens


def fixed(**changes: Any) -> int:
    return count(ModelConfig(**{**TINY, **changes}), 32, 24, SHAPES).fixed


def test_parts_counted_by_hand() -> None:
    """Of 32 channels, 4 heads, 3 levels and 17 tokens; a linear layer of 32 to 32 has 1024."""
    # attention of 2 points: offsets and weights 32 · 72, 4 · 192 samples, output 1024, norm 160; then 2 · 2048 and a norm
    sparse = {"two_stage": True, "rho": 0.3}
    assert count(ModelConfig(**{**TINY, **sparse}), 32, 24, SHAPES).per_kept_token == 2 * (4256 + 4256)
    assert fixed(enc_layers=3) - fixed() == 17 * (1024 + 8512)
    assert fixed(enc_layers=3, **sparse) - fixed(**sparse) == 17 * 1024  # the values of every token
    # self-attention 4 · 1024 + 2 · 5 · 32 + 160, attention of 3 points 5792, 4256, classes 224, boxes 2176
    layer = 17 * 1024 + 5 * (4576 + 5792 + 4256 + 224 + 2176)
    assert fixed(dec_layers=3) - fixed() == layer
    assert fixed(dec_layers=3, refine_references=True) - fixed(refine_references=True) == layer + 5 * 2176
    # first stage: a layer and norm of 1184, classes 224 and boxes 2176 of each token; 64 to 64 or 32 and a norm of each query
    nothing = {"dec_layers": 0}
    proposals = fixed(two_stage=True, **nothing) - fixed(**nothing)
    assert proposals == 17 * (1184 + 224 + 2176) + 5 * (4096 + 320) - 5 * 64
    assert fixed(two_stage=True, eff_query_init=True) - fixed(two_stage=True) == 5 * (2048 + 160 - 4096 - 320)
    # scoring: a layer and norm of 1184, a norm, and layers of 32, 32, 16, 8 and 1
    scoring = fixed(**sparse) - (fixed(two_stage=True) - 17 * 2 * 8512)
    assert scoring == 17 * (1184 + 160 + 1024 + 512 + 128 + 8)


def test_gmacs_of_known_counts() -> None:
    assert Complexity(fixed=3_000_000_000, per_kept_token=250_000_000).gmacs(6) == 4.5
    assert Complexity(fixed=3_000_000_000, per_kept_token=0).gmacs() == 3.0
