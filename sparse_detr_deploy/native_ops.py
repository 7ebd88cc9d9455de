"""Finding the fused CPU kernels for ONNX Runtime that are built with the package (``plugins/onnxruntime``)."""

from __future__ import annotations

import importlib.machinery
import os
from pathlib import Path

from sparse_detr_deploy.errors import BackendError

ENVIRONMENT = "SPARSE_DETR_ORT_OPS"


def library_path() -> Path | None:
    """The shared library to register with ONNX Runtime, or ``None`` if it was not built.

    The environment variable ``SPARSE_DETR_ORT_OPS`` names another one; a path where no file is raises
    :class:`BackendError`.
    """
    named = os.environ.get(ENVIRONMENT)
    if named:
        if not os.path.isfile(named):
            what = "is not a file" if os.path.exists(named) else "does not exist"
            raise BackendError(f"{ENVIRONMENT} names {named}, which {what}")
        return Path(os.path.abspath(named))  # ONNX Runtime looks for a relative one elsewhere
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        candidate = Path(__file__).with_name(f"_ort_ops{suffix}")
        if candidate.is_file():
            return candidate
    return None


def is_named() -> bool:
    """Whether the user names the library: one that is asked for must load."""
    return bool(os.environ.get(ENVIRONMENT))
