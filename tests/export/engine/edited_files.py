"""Exported files that somebody has edited."""

from __future__ import annotations

import json
from pathlib import Path

import onnx

from sparse_detr_deploy.metadata import METADATA_KEY
from sparse_detr_deploy.onnx_digest import PLACEHOLDER, seal


def resealed(proto: onnx.ModelProto, path: Path, name: str, digest: str = PLACEHOLDER) -> Path:
    """The file as whoever wants to harm would write it: its metadata changed, its digest right."""
    text = next(entry.value for entry in proto.metadata_props if entry.key == METADATA_KEY)
    document = {**json.loads(text), "name": name, "digest": digest}
    onnx.helper.set_model_props(proto, {METADATA_KEY: json.dumps(document, ensure_ascii=False)})
    path.write_bytes(proto.SerializeToString())
    if digest:
        seal(path)
    return path
