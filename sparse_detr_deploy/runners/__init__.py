"""Runtime backends, opened by the artefact's suffix or by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparse_detr_deploy.errors import ArtefactError, BackendError, InputError
from sparse_detr_deploy.runners.base import Runner

BACKENDS = ("onnxruntime", "openvino")

__all__ = ["BACKENDS", "Runner", "open_runner"]


def open_runner(path: str | Path, backend: str | None = None, **options: Any) -> Runner:
    """Open an artefact with ``backend`` (default: ONNX Runtime for ``.onnx``); options go to the backend."""
    path = Path(path)
    if path.suffix == ".engine":
        raise BackendError(f"{path}: TensorRT engines cannot be run by this version; give the .onnx file")
    if path.suffix != ".onnx" and not path.is_dir():
        raise ArtefactError(f"{path} is not an artefact: a file that ends in .onnx is needed")
    if backend not in (None, *BACKENDS):
        raise InputError(f"the backend {backend!r} is not one of {', '.join(BACKENDS)}")
    if backend == "openvino":
        from sparse_detr_deploy.runners.openvino import OpenVINORunner

        return OpenVINORunner(path, **options)
    from sparse_detr_deploy.runners.onnxruntime import OnnxRuntimeRunner

    return OnnxRuntimeRunner(path, **options)
