"""The digest is a SHA-256 that anybody can compute; on a small file, which takes no export."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from sparse_detr_deploy import onnx_digest
from sparse_detr_deploy.onnx_digest import PLACEHOLDER, check_digest, seal
from sparse_detr_deploy.onnx_metadata import read_metadata
from tests.runtime.test_onnx_metadata import METADATA, METADATA_KEY, small_onnx


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_the_value(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_digest, "_CHUNK", chunk)
    path = tmp_path / "small.onnx"
    metadata = dataclasses.replace(METADATA, digest=PLACEHOLDER)
    content = small_onnx(**{METADATA_KEY: metadata.to_json()}, z="behind the metadata").SerializeToString()
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    assert seal(path) == digest
    assert path.read_bytes() == content.replace(PLACEHOLDER.encode(), digest.encode())
    assert read_metadata(path).digest == digest
    check_digest(path)
