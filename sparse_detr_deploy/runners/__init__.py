"""Runtime backends, opened by the artefact's suffix or by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sparse_detr_deploy.errors import ArtefactError, InputError
from sparse_detr_deploy.onnx_digest import check_digest
from sparse_detr_deploy.runners.base import Runner
from sparse_detr_deploy.runners.options import check_options
from sparse_detr_deploy.short_repr import short_repr

BACKENDS = ("onnxruntime", "openvino", "tensorrt")

__all__ = ["BACKENDS", "Runner", "open_runner"]


def open_runner(path: str | Path, backend: str | None = None, *, verify: bool = False, **options: Any) -> Runner:
    """Open an artefact with ``backend``; options go to the backend.

    The default is ONNX Runtime for ``.onnx`` and TensorRT for ``.engine``, TensorRT-RTX where the engine is for that.
    ``verify`` checks the digest of an ``.onnx`` file first; that of an engine is always checked.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise InputError(f"the artefact is {short_repr(path)}: give its path, as text or as a pathlib.Path")
    path = Path(path)
    if backend is not None and not (isinstance(backend, str) and backend in BACKENDS):
        raise InputError(f"the backend {short_repr(backend)} is not one of {', '.join(BACKENDS)}")
    if path.suffix == ".engine":
        if backend not in (None, "tensorrt"):
            raise InputError(f"{path} is a TensorRT engine, which {backend} does not run: give the .onnx file")
        from sparse_detr_deploy.runners.tensorrt import TensorRTRunner

        check_options("tensorrt", TensorRTRunner, options)
        return TensorRTRunner(path, **options)
    if path.suffix != ".onnx" and not os.path.isdir(path):
        raise ArtefactError(f"{path} is not an artefact: a file that ends in .onnx or .engine is needed")
    if backend == "tensorrt":
        raise InputError(f"{path} is no engine: build one with sparse-detr-export --engine tensorrt (or tensorrt-rtx)")
    if backend == "openvino":
        from sparse_detr_deploy.runners.openvino import OpenVINORunner

        check_options("openvino", OpenVINORunner, options)
        _verify(path, verify)
        return OpenVINORunner(path, **options)
    from sparse_detr_deploy.runners.onnxruntime import OnnxRuntimeRunner

    check_options("onnxruntime", OnnxRuntimeRunner, options)
    _verify(path, verify)
    return OnnxRuntimeRunner(path, **options)


def _verify(path: Path, wanted: bool) -> None:
    if wanted:
        check_digest(path)
