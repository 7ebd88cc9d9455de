"""What cannot become an engine is refused before any work, with the way out."""

from __future__ import annotations

import dataclasses

import pytest

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.export.engine.spec import DEFAULT_TARGETS, EngineSpec
from sparse_detr_deploy.metadata import Metadata

METADATA = Metadata(
    name="r50_rho30_96x128",
    architecture="r50",
    model={"two_stage": True},
    height=96,
    width=128,
    level_shapes=((12, 16), (6, 8)),
    rho=0.3,
)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"flavour": "trt"}, "not one of tensorrt, tensorrt-rtx"),
        ({"flavour": "tensorrt", "targets": ("sm89",)}, "takes no --target"),
        ({"flavour": "tensorrt", "workspace_mib": 0}, "at least 1"),
        ({"flavour": "tensorrt-rtx", "targets": ("sm90",)}, "data-centre"),
        ({"flavour": "tensorrt-rtx", "targets": ("sm100",)}, "--engine tensorrt"),
        ({"flavour": "tensorrt-rtx", "targets": ("sm89", "sm75")}, "no float32 matrix products"),
        ({"flavour": "tensorrt-rtx", "targets": ("89",)}, "sm80, sm86, sm89, sm120, sm121"),
        ({"flavour": "tensorrt-rtx", "self_contained": True}, "no plugins to put in"),
        ({"flavour": "tensorrt-rtx", "allow_fallback": True}, "standard ops always"),
    ],
)
def test_contradictions(fields: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        EngineSpec(**fields)


def test_targets() -> None:
    assert EngineSpec("tensorrt-rtx").targets == DEFAULT_TARGETS == ("sm89", "sm120")
    assert EngineSpec("tensorrt-rtx", ("sm86", "sm80", "sm86")).targets == ("sm86", "sm80")
    assert EngineSpec("tensorrt").targets == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_detections": 3841}, "3841 detections .* at most 3840"),
        ({"num_queries": 5000}, "5000 queries"),
        ({"precision": "bfloat16"}, "bfloat16"),
        ({"inlined": True}, "without --inline-functions"),
        ({"padded": True, "dynamic_rho": True, "batch": (1, 1, 2)}, "one number a run"),
    ],
)
def test_files_that_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        EngineSpec("tensorrt-rtx").check(dataclasses.replace(METADATA, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_detections": 3840},
        {"num_detections": 5000, "outputs": "raw"},
        {"num_queries": 5000, "model": {"two_stage": False}},
        {"padded": True, "dynamic_rho": True},
        {"dynamic_rho": True, "batch": (1, 4, 8)},
        {"padded": True, "batch": (1, 4, 8)},
    ],
)
def test_files_that_are_not(changes: dict) -> None:
    for flavour in ("tensorrt", "tensorrt-rtx"):
        EngineSpec(flavour).check(dataclasses.replace(METADATA, **changes))
