"""What an architecture may be, and what is read from the official arguments."""

from __future__ import annotations

from typing import Any

import pytest

from sparse_detr_deploy.errors import CheckpointError
from sparse_detr_deploy.modeling import ModelConfig, sparse_config

OFFICIAL_DEFAULTS = {
    "backbone": "resnet50",
    "dilation": False,
    "num_classes": 91,
    "num_queries": 300,
    "num_feature_levels": 4,
    "hidden_dim": 256,
    "nheads": 8,
    "enc_layers": 6,
    "dec_layers": 6,
    "dim_feedforward": 1024,
    "enc_n_points": 4,
    "dec_n_points": 4,
    "with_box_refine": False,
    "two_stage": False,
    "eff_query_init": False,
    "eff_specific_head": False,
    "use_enc_aux_loss": False,
    "rho": 0.0,
    "refine_references": None,
}


def test_defaults_are_the_official_ones() -> None:
    assert ModelConfig().to_dict() == OFFICIAL_DEFAULTS


@pytest.mark.parametrize(("rho", "auxiliary"), [(0.3, True), (0.0, False)])
def test_published_sparse_detr(rho: float, auxiliary: bool) -> None:
    expected = {
        **OFFICIAL_DEFAULTS,
        **dict.fromkeys(("with_box_refine", "two_stage", "eff_query_init", "eff_specific_head"), True),
        "backbone": "swin-t",
        "rho": rho,
        "use_enc_aux_loss": auxiliary,
        "nheads": 4,
    }
    config = sparse_config("swin-t", rho, nheads=4)
    assert config.to_dict() == expected
    assert config.is_sparse == auxiliary


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet18"}, r"'resnet18' is not one of resnet50, resnet101, swin-t, thin-resnet18"),
        ({"backbone": "swin-t", "dilation": True}, r"dilation \(DC5\)"),
        ({"rho": -0.01}, r"rho is -0\.01"),
        ({"rho": 1.01, "two_stage": True}, r"rho is 1\.01"),
        ({"rho": float("nan")}, "rho is nan"),
        ({"rho": 0.3}, "needs two_stage"),
        ({"backbone": "thin-resnet18", "num_feature_levels": 1}, "3 to 8"),
        ({"nheads": 0}, "multiple of nheads 0"),
        ({"hidden_dim": 0}, "hidden_dim 0"),
        ({"hidden_dim": 96, "nheads": 5}, "hidden_dim 96 must be a multiple of nheads 5"),
        ({"hidden_dim": 48}, "and of 32"),
        ({"num_feature_levels": 0}, "num_feature_levels is 0"),
        ({"num_feature_levels": 2}, "num_feature_levels is 2"),
        ({"num_feature_levels": 9}, "num_feature_levels is 9"),
    ],
)
def test_what_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        ModelConfig(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"rho": 1.0, "two_stage": True},
        {"backbone": "resnet101", "dilation": True},
        {"backbone": "thin-resnet18", "num_feature_levels": 3},
        {"hidden_dim": 32, "nheads": 1},
        *({"num_feature_levels": levels} for levels in (1, 3, 8)),
    ],
)
def test_what_just_can_be(changes: dict[str, Any]) -> None:
    assert ModelConfig(**changes).to_dict() == {**OFFICIAL_DEFAULTS, **changes}


@pytest.mark.parametrize(
    ("two_stage", "refine_references", "expected"),
    [(False, None, False), (True, None, True), (False, True, True), (True, False, False)],
)
def test_references_move_with_two_stages_unless_it_is_said(
    two_stage: bool, refine_references: bool | None, expected: bool
) -> None:
    config = ModelConfig(with_box_refine=True, two_stage=two_stage, refine_references=refine_references)
    assert config.refines_references is expected


@pytest.mark.parametrize(
    ("backbone", "short"),
    [("resnet50", "r50"), ("resnet101", "r101"), ("swin-t", "swint"), ("thin-resnet18", "thin18")],
)
def test_short_names(backbone: str, short: str) -> None:
    assert ModelConfig(backbone=backbone).short_name == short


def test_official_arguments_that_are_not_of_the_architecture_are_left() -> None:
    arguments = {"enc_layers": 3, "lr": 2e-4, "nheads": None, "masks": False, "position_embedding": "sine"}
    assert ModelConfig.from_mapping(arguments) == ModelConfig(enc_layers=3)
    assert ModelConfig.from_mapping({"position_embedding": "v2"}) == ModelConfig()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"position_embedding": "learned"}, "'learned' is not supported"), ({"masks": True}, "segmentation head")],
)
def test_official_arguments_that_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        ModelConfig.from_mapping(arguments)
