"""Finding the fused CPU kernels for ONNX Runtime that are built with the package (``plugins/onnxruntime``)."""

from __future__ import annotations

import importlib.machinery
import os
from pathlib import Path

from sparse_detr_deploy.errors import BackendError

_ENVIRONMENT = "SPARSE_DETR_ORT_OPS"


def library_path() -> Path | None:
    """The shared library to register with ONNX Runtime, or ``None`` if it was not built.

    The environment variable ``SPARSE_DETR_ORT_OPS`` names another one; a path that is not there raises
    :class:`BackendError`.
    """
    named = os.environ.get(_ENVIRONMENT)
    if named:
        if not os.path.isfile(named):
            raise BackendError(f"{_ENVIRONMENT} names {named}, which does not exist")
        return Path(named)
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        candidate = Path(__file__).with_name(f"_ort_ops{suffix}")
        if candidate.is_file():
            return candidate
    return None
