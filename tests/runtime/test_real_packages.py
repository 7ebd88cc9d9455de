"""The runner on the real packages, as far as they go without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparse_detr_deploy.engine_record import EngineRecord, sidecar_json, sidecar_path
from sparse_detr_deploy.hashing import sha256_of
from sparse_detr_deploy.metadata import Metadata
from tests.plugins.packages import UnavailableError, package

TENSORRT_RTX = ("tensorrt-rtx-cu13", "1.7.1.116")
CUDA_BINDINGS = ("cuda-bindings", "13.5.0")


def folder_of(name: str, version: str) -> Path:
    try:
        return package(name, version)
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.mark.network
def test_the_way_up_to_the_driver(tmp_path: Path) -> None:
    """With the real TensorRT-RTX and the real bindings: the reason is told."""
    if any(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this machine has an NVIDIA GPU")
    folders = [folder_of(*TENSORRT_RTX), folder_of(*CUDA_BINDINGS)]
    engine = tmp_path / "x.engine"
    engine.write_bytes(b"an engine")
    record = EngineRecord(
        "tensorrt-rtx", TENSORRT_RTX[1], sha256_of(engine), "", "fp32", {}, ("sm89",), "standard ops", "top-k"
    )
    metadata = Metadata("x", "r50", {}, 96, 128, ((12, 16),))
    sidecar_path(engine).write_text(sidecar_json(metadata, record))
    code = f"""
import json
from sparse_detr_deploy import Detector, BackendError
try:
    Detector.load({str(engine)!r})
except BackendError as error:
    print(json.dumps(str(error)))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout.splitlines()[-1])
    assert "CUDA cannot be used" in said
    assert "install NVIDIA's driver" in said
