"""Checkpoints that do not hold their arguments: what their tensors do not tell is asked for, never guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sparse_detr_deploy.errors import CheckpointError
from sparse_detr_deploy.export import load_checkpoint
from tests.export.test_checkpoint import (
    ARCHITECTURES,
    ONE_STAGE,
    PLAIN_TWO_STAGE,
    network,
    official,
    outputs,
    resolved,
    saved_bare,
)

RESNET = {"backbone": "resnet50"}
HEADS = {"nheads": 8, "dilation": False}  # what no tensor tells, of any ResNet
CHOICE = {"num_queries": 20, "eff_specific_head": False}  # the same, of any two-stage model


@pytest.mark.parametrize(
    ("changes", "args"),
    [
        *((ARCHITECTURES[name], HEADS) for name in ARCHITECTURES if "one stage" in name),
        ({**ONE_STAGE, "nheads": 4, "enc_n_points": 4, "dec_n_points": 2}, {**HEADS, "nheads": 4}),
        ({**ONE_STAGE, "nheads": 4, "enc_n_points": 2}, {"enc_n_points": 2, "dilation": False}),
        ({**ONE_STAGE, "nheads": 4, "dec_n_points": 3}, {"dec_n_points": 3, "dilation": False}),
        ({**ONE_STAGE, "nheads": 1, "enc_n_points": 3, "dec_n_points": 5}, {"dilation": False}),
        ({**ONE_STAGE, **RESNET, "dilation": True}, {**HEADS, "dilation": True}),
        ({**ONE_STAGE, **RESNET, "dilation": True, "num_feature_levels": 1}, {**HEADS, "dilation": 1}),
        ({**ONE_STAGE, "backbone": "swin-t"}, {"nheads": 8}),
        ({**PLAIN_TWO_STAGE, "eff_specific_head": True}, {**HEADS, **CHOICE, "eff_specific_head": True}),
        (PLAIN_TWO_STAGE, {**HEADS, **CHOICE}),
        ({"num_queries": 50, "eff_specific_head": False}, {**HEADS, **CHOICE, "num_queries": 50, "rho": 0.3}),
    ],
)
def test_a_bare_state_dict_with_what_its_tensors_do_not_tell(
    changes: dict[str, Any], args: dict[str, Any], tmp_path: Path
) -> None:
    model = network(**changes)
    loaded = load_checkpoint(saved_bare(model, tmp_path, args))
    assert resolved(loaded.config) == resolved(model.config)
    assert torch.equal(outputs(loaded), outputs(model))


@pytest.mark.parametrize(
    ("changes", "args", "missing"),
    [
        ({**ONE_STAGE, **RESNET}, None, HEADS),
        ({**ONE_STAGE, **RESNET, "nheads": 4, "enc_n_points": 4}, None, HEADS),
        ({**ONE_STAGE, **RESNET, "dilation": True}, {"nheads": 8, "lr": 1e-4}, {"dilation": False}),
        (ONE_STAGE, {"dilation": False, "nheads": None}, {"nheads": 8}),
        ({**ONE_STAGE, "backbone": "swin-t"}, None, {"nheads": 8}),
        (RESNET, None, {"rho": 0.3, **HEADS, "num_queries": 300, "eff_specific_head": True}),
        ({**RESNET, "num_queries": 50}, {"rho": 0.3}, {**HEADS, "num_queries": 300, "eff_specific_head": True}),
        ({"num_queries": 50}, {**HEADS, **CHOICE}, {"rho": 0.3}),
        ({**PLAIN_TWO_STAGE, **RESNET, "eff_specific_head": True}, {"lr": 1}, {**HEADS, **CHOICE, "num_queries": 300}),
        (PLAIN_TWO_STAGE, {**HEADS, "num_queries": 20, "two_stage": True}, {"eff_specific_head": False}),
        ({"rho": 0.0}, {**HEADS, "eff_specific_head": True}, {"num_queries": 300}),
    ],
)
def test_what_the_tensors_do_not_tell_is_asked_for(
    changes: dict[str, Any], args: dict[str, Any] | None, missing: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(saved_bare(network(**changes), tmp_path, args))
    put = f"put {json.dumps(missing)} with the values it was trained with as JSON beside it"
    assert put in str(caught.value)
    assert str(tmp_path / "x.pth") in str(caught.value)
    for name in missing:
        assert name in str(caught.value).partition(": put")[0]


def test_arguments_of_the_original_deformable_detr_tell_all(tmp_path: Path) -> None:
    """Its code has no eff_specific_head (nor eff_query_init, rho), so its files hold none."""
    model = network(**PLAIN_TWO_STAGE, refine_references=False)
    content = official(model, tmp_path)
    for name in ("eff_query_init", "eff_specific_head", "use_enc_aux_loss", "rho"):
        delattr(content["args"], name)
    content["args"].focal_alpha = 0.25
    torch.save(content, tmp_path / "x.pth")
    loaded = load_checkpoint(tmp_path / "x.pth")
    assert not loaded.config.eff_specific_head
    assert torch.equal(outputs(loaded), outputs(model))
