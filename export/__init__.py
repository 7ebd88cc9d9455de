"""From a trained checkpoint to verified artefacts. Needs the extra ``export`` (torch, onnx).

The names are imported when they are first used, so that the command-line programs start, and say what is missing,
without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparse_detr_deploy.export.checkpoint import load_checkpoint
    from sparse_detr_deploy.export.graph import export_onnx
    from sparse_detr_deploy.export.spec import ExportSpec, artefact_name

__all__ = ["ExportSpec", "artefact_name", "export_onnx", "load_checkpoint"]

_MODULES = {"ExportSpec": "spec", "artefact_name": "spec", "export_onnx": "graph", "load_checkpoint": "checkpoint"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
