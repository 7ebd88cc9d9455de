"""Engine files for the fake TensorRT: a header and the ONNX file that ONNX Runtime runs in the place of the engine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from sparse_detr_deploy.engine_record import EngineRecord, sidecar_json, sidecar_path
from sparse_detr_deploy.onnx_metadata import read_metadata

MAGIC = b"FAKE ENGINE\0"
_LENGTH = 4  # bytes


@dataclasses.dataclass(frozen=True)
class Plan:
    """What an engine file holds: a model, the shapes of its profile, and whether it needs plugins and has them."""

    model: bytes
    profile: dict[str, list[list[int]]]
    needs_plugins: bool
    embedded: bool


def plan_of(
    model: bytes, profile: dict[str, list[list[int]]], needs_plugins: bool = False, embedded: bool = False
) -> bytes:
    """The bytes of an engine."""
    header = json.dumps({"profile": profile, "needs_plugins": needs_plugins, "embedded": embedded}).encode()
    return MAGIC + len(header).to_bytes(_LENGTH, "little") + header + model


def read_plan(data: bytes) -> Plan | None:
    """What :func:`plan_of` wrote; ``None`` for anything else."""
    if not data.startswith(MAGIC):
        return None
    start = len(MAGIC) + _LENGTH
    end = start + int.from_bytes(data[len(MAGIC) : start], "little")
    return Plan(data[end:], **json.loads(data[start:end]))


def fake_engine(onnx_file: Path, engine: Path, **record: Any) -> Path:
    """Write ``engine`` and its sidecar, as a builder would, from an exported ONNX file; ``record`` changes its fields."""
    metadata = read_metadata(onnx_file)
    model = onnx_file.read_bytes()
    sizes = {"images": (3, metadata.height, metadata.width)}
    if metadata.padded:
        sizes["image_sizes"] = (2,)
    varies = metadata.batch[0] != metadata.batch[2]
    profile = {name: [[batch, *rest] for batch in metadata.batch] for name, rest in sizes.items() if varies}
    plan = plan_of(model, profile)
    engine.write_bytes(plan)
    values: dict[str, Any] = {
        "flavour": "tensorrt",
        "version": "10.16.1.11",
        "sha256": hashlib.sha256(plan).hexdigest(),
        "onnx_sha256": hashlib.sha256(model).hexdigest(),
        "precision": "fp32",
        "layer_types": {"FLOAT": 3},
        "targets": ("sm89",),
        "attention": "standard ops",
        "selection": "top-k",
    }
    text = sidecar_json(metadata, EngineRecord(**{**values, **record}))
    sidecar_path(engine).write_text(text, encoding="utf-8")
    return engine
