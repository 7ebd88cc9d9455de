"""From a trained checkpoint to verified artefacts. Needs the extra ``export`` (torch, onnx)."""

from sparse_detr_deploy.export.checkpoint import load_checkpoint
from sparse_detr_deploy.export.graph import export_onnx
from sparse_detr_deploy.export.spec import ExportSpec, artefact_name

__all__ = ["ExportSpec", "artefact_name", "export_onnx", "load_checkpoint"]
