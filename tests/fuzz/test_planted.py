"""Faults of the first version, put back one at a time: the fuzz test finds each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sparse_detr_deploy.detections import Detections
from sparse_detr_deploy.errors import InputError
from tests.fuzz.harness import CASES_OF_WEIGHT_ONE, bounded_memory, run
from tests.fuzz.targets import TARGETS

pytestmark = pytest.mark.fuzz
PACKAGE = "sparse_detr_deploy"
Patch = tuple[str, Any]


def nothing(*arguments: Any, **options: Any) -> None:
    """In the place of a check."""


def given(value: Any, *arguments: Any) -> Any:
    """In the place of a check that gives back what it has checked."""
    return value


def old_names(found: Detections) -> list[str]:
    known = found.class_names or ()
    return [known[label] if label < len(known) else str(label) for label in found.labels.tolist()]


def old_check_color(color: Any) -> None:
    if color not in ("bgr", "rgb"):
        raise InputError("no colour")


def old_read_bytes(path: Path, most: int) -> bytes:
    return Path(path).read_bytes()


def old_read_text(path: Path, most: int) -> str:
    return Path(path).read_text(encoding="utf-8")


def old_console(*arguments: Any, **options: Any) -> Console:
    return Console(stderr=True, width=200)


# what was wrong: the target that finds it, and the patches that put it back
FAULTS: dict[str, tuple[str, tuple[Patch, ...]]] = {
    "a name in metadata leads out of the folder": (
        "metadata",
        ((f"{PACKAGE}.metadata_check.name_fault", nothing),),
    ),
    "metadata nested 900 deep": ("metadata", ((f"{PACKAGE}.metadata.parse_json", json.loads),)),
    "std of 1e-300": (
        "metadata",
        ((f"{PACKAGE}.limits.LEAST_STD", 5e-324), (f"{PACKAGE}.limits.MOST_STD", 1e308)),
    ),
    "the library in a sidecar is a path": ("sidecar", ((f"{PACKAGE}.engine_record.name_fault", nothing),)),
    "targets in a sidecar that are no text": ("sidecar", ((f"{PACKAGE}.engine_record.is_text", lambda value: True),)),
    "a graph that is not what its metadata say": (
        "session",
        (
            (f"{PACKAGE}.runners.onnxruntime.check_graph", nothing),
            (f"{PACKAGE}.runners.onnxruntime.check_result", nothing),
            (f"{PACKAGE}.postprocessing.check_outputs", nothing),
        ),
    ),
    "label -1 is called by the last name": (
        "session",
        ((f"{PACKAGE}.detections.Detections.names", property(old_names)),),
    ),
    "scores that are not finite": ("outputs", ((f"{PACKAGE}.postprocessing._check_finite", nothing),)),
    "score_threshold=None": ("call", ((f"{PACKAGE}.detector.check_score", given),)),
    "an array of colours": ("call", ((f"{PACKAGE}.detector.check_color", old_check_color),)),
    "an image of 2.1e8 pixels in 30 kB": ("image", ((f"{PACKAGE}.images._check_size", nothing),)),
    "a canvas of 2^32 pixels": (
        "metadata",
        ((f"{PACKAGE}.limits.canvas_fault", nothing),),
    ),
    "a sidecar that is a FIFO": (
        "sidecar",
        ((f"{PACKAGE}.engine_record.read_text", old_read_text), ("tests.fuzz.harness.HANG_SECONDS", 1)),
    ),
    "one number that is ten million": (
        "checkpoint",
        (
            (f"{PACKAGE}.export.torch_file.check_view", nothing),
            (f"{PACKAGE}.export.checkpoint_file.MOST_SHARING", 1e18),
        ),
    ),
    "an image whose id is there twice": (
        "annotations",
        ((f"{PACKAGE}.benchmarks.coco_file._repetition", lambda dataset: ""),),
    ),
    "a name that drives the terminal": ("table", ((f"{PACKAGE}.cli_support.printable", given),)),
    "an image that is a FIFO": (
        "image",
        ((f"{PACKAGE}.images.read_bytes", old_read_bytes), ("tests.fuzz.harness.HANG_SECONDS", 1)),
    ),
    "annotations nested 900 deep": ("annotations", ((f"{PACKAGE}.benchmarks.coco_file.parse_json", json.loads),)),
    "annotations that name files outside": (
        "annotations",
        ((f"{PACKAGE}.benchmarks.accuracy.inner_path_fault", nothing),),
    ),
    "a config with 10**400": ("config", ((f"{PACKAGE}.training.config.check_plain", nothing),)),
    "[red] in a name": ("table", (("tests.fuzz.targets.measuring.console_for_people", old_console),)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_is_found(fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name, patches = FAULTS[fault]
    target = TARGETS[name]
    for place, replacement in patches:
        monkeypatch.setattr(place, replacement)
    with bounded_memory():
        outcome = run(target, range(target.weight * CASES_OF_WEIGHT_ONE), tmp_path, stop_at=1)
    assert outcome.failures, f"{outcome.cases} cases did not find it"
