"""Engine files for the fake TensorRT."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from sparse_detr_deploy.engine_record import EngineRecord, sidecar_json, sidecar_path
from sparse_detr_deploy.onnx_metadata import read_metadata

MAGIC = b"FAKE ENGINE\0"


def fake_engine(onnx_file: Path, engine: Path, **record: Any) -> Path:
    """Write ``engine`` and its sidecar, as a builder would, from an exported ONNX file; ``record`` changes its fields."""
    model = onnx_file.read_bytes()
    plan = MAGIC + model
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
    text = sidecar_json(read_metadata(onnx_file), EngineRecord(**{**values, **record}))
    sidecar_path(engine).write_text(text, encoding="utf-8")
    return engine
