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
from sparse_detr_deploy.modeling import ModelConfig, build_model, sparse_config
from sparse_detr_deploy.modeling.complexity import count

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
    ],
    ids=lambda config: f"{config.short_name}-{config.num_feature_levels}{'-dc5' if config.dilation else ''}",
)
def test_backbone_and_projections_as_torch_counts_them(config: ModelConfig) -> None:
    config = ModelConfig(**{**config.to_dict(), "enc_layers": 0, "dec_layers": 0, "num_queries": 0})
    with torch.device("meta"):
        model = build_model(config)

    def norm(shape: torch.Size, *_: Any, **__: Any) -> int:
        return 2 * 5 * prod(shape)

    aten = torch.ops.aten
    counter = FlopCounterMode(
        display=False, custom_mapping={aten.native_layer_norm: norm, aten.native_group_norm: norm}
    )
    height, width = 203, 331
    with counter, torch.no_grad():
        model.tokens(torch.zeros(1, 3, height, width, device="meta"))
    counted = count(config, height, width, model.level_shapes(height, width))
    assert counted.per_kept_token == 0
    assert counted.fixed == counter.get_total_flops() // 2


def test_linear_in_the_kept_tokens() -> None:
    config = sparse_config()
    complexity = count(config, 800, 1066, ((100, 134), (50, 67), (25, 34), (13, 17)))
    assert complexity.gmacs(200) - complexity.gmacs(100) == pytest.approx(100 * complexity.per_kept_token / 1e9)
    assert complexity.per_kept_token > 0
