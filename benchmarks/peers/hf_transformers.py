"""Deformable DETR of the ``transformers`` package: two-stage with box refinement, R50, random weights, dense only.

Its tracing export computes the sampling locations in float64, although the model is float32 (its reference points are a
``linspace`` whose type the exporter loses), and ONNX Runtime has no GridSample for that. So the file's float64 values
are made float32. (The other exporter, ``dynamo=True``, gives a file that ONNX Runtime refuses as well; without its graph
optimiser the file loads and is no faster.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from sparse_detr_deploy.benchmarks.peers.original import export_naively
from sparse_detr_deploy.quiet_imports import import_onnxruntime

CHANGE = (
    "float64 constants and casts of the exported file are made float32: as it stands ONNX Runtime refuses it, since the "
    "export computes sampling locations in float64"
)


class _Plain(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        output = self.network(pixel_values=images)
        return output.logits, output.pred_boxes


def build_transformers() -> nn.Module:
    """Its network, in eval mode: images [1, 3, H, W] float32 to pred_logits [1, 300, 91] and pred_boxes [1, 300, 4]."""
    from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection, ResNetConfig

    torch.manual_seed(0)
    config = DeformableDetrConfig(
        backbone_config=ResNetConfig(out_features=["stage2", "stage3", "stage4"]),
        two_stage=True,
        with_box_refine=True,
        num_queries=300,
        num_labels=91,
        disable_custom_kernels=True,
    )
    return _Plain(DeformableDetrForObjectDetection(config)).eval()


def export_transformers(height: int, width: int, path: Path) -> str | None:
    """Write the ONNX file, made float32. Returns what ONNX Runtime says of the file as it stood (``None``: nothing)."""
    onnxruntime = import_onnxruntime()
    export_naively(build_transformers(), height, width, path)
    try:
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        refusal = str(error)
    else:
        return None
    proto = onnx.load(path)
    _make_float32(proto)
    onnx.save(proto, path)
    return refusal


def _make_float32(proto: onnx.ModelProto) -> None:
    """Turn every float64 constant and cast of a graph into float32, in place."""
    tensors = list(proto.graph.initializer)
    for node in proto.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == onnx.TensorProto.DOUBLE:
                attribute.i = onnx.TensorProto.FLOAT
            if attribute.HasField("t"):
                tensors.append(attribute.t)
    for tensor in tensors:
        if tensor.data_type == onnx.TensorProto.DOUBLE:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    del proto.graph.value_info[:]
