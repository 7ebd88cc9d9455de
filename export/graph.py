"""From the PyTorch module to an ONNX graph for one canvas size and one keep ratio (or every one)."""

from __future__ import annotations

import copy
import logging
import re
import warnings
from collections.abc import Sequence
from typing import Any

import onnx
import onnx.inliner
import onnxscript
import onnxscript.optimizer
import torch
from onnxscript import opset20 as op
from torch import Tensor

from sparse_detr_deploy import __version__
from sparse_detr_deploy.export.exported_module import ExportedModule
from sparse_detr_deploy.export.functions import CUSTOM_OPS, DOMAIN, OP_VERSION, OPSET, add_functions, op_schema
from sparse_detr_deploy.export.spec import PRECISIONS, ExportSpec, artefact_name
from sparse_detr_deploy.metadata import METADATA_KEY, Metadata
from sparse_detr_deploy.modeling import ModelConfig, SparseDETR
from sparse_detr_deploy.modeling.complexity import count

_domain = onnxscript.values.Opset(DOMAIN, OP_VERSION)
_MS_DEFORM_ATTN, _SELECT_TOKENS = (
    onnxscript.values.Op(_domain, name, op_schema(name)) for name in ("MSDeformAttn", "SelectTokens")
)


def _ms_deform_attn(
    value: Any, spatial_shapes: Sequence[int], reference_points: Any, sampling_offsets: Any, attention_logits: Any
) -> Any:
    shapes = torch.tensor(list(spatial_shapes), dtype=torch.int64).view(-1, 2).numpy()
    constant = op.Constant(value=onnx.numpy_helper.from_array(shapes))
    return _MS_DEFORM_ATTN(value, constant, reference_points, sampling_offsets, attention_logits)


def _select_tokens(scores: Any, num_keep: Any, max_keep: int) -> Any:
    return _SELECT_TOKENS(scores, num_keep)


def export_onnx(model: SparseDETR, spec: ExportSpec) -> onnx.ModelProto:
    """Export ``model`` for ``spec``: custom ops with their bodies, names of inputs and outputs, and metadata.

    Raises:
        InputError: the specification does not fit the model.
    """
    spec.check_against(model.config)
    graph = ExportedModule(model, spec).eval()
    inputs, dynamic = _inputs(spec, model)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            graph,
            tuple(inputs.values()),
            input_names=[name for name, value in inputs.items() if value is not None],
            output_names=_output_names(spec),
            dynamic_shapes=dynamic,
            custom_translation_table={
                torch.ops.sparse_detr.ms_deform_attn.default: _ms_deform_attn,
                torch.ops.sparse_detr.select_tokens.default: _select_tokens,
            },
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    _name_batch(proto)
    add_functions(proto)
    if spec.inline_functions:
        proto = inline_functions(proto)
    set_metadata(proto, describe(model, spec))
    return proto


def _name_batch(proto: onnx.ModelProto) -> None:
    """Call the dynamic dimension ``batch``: the exporter names it after its own symbol."""
    symbol = proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if symbol and dimension.dim_param:
                dimension.dim_param = re.sub(rf"\b{symbol}\b", "batch", dimension.dim_param)


def inline_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Expand the custom ops into standard ones and fold what became constant."""
    inlined: onnx.ModelProto = onnx.inliner.inline_local_functions(proto)
    keep = [entry for entry in inlined.opset_import if entry.domain != DOMAIN]
    del inlined.opset_import[:]
    inlined.opset_import.extend(keep)
    onnxscript.optimizer.optimize(inlined, input_size_limit=4096, output_size_limit=4096)
    return inlined


def describe(model: SparseDETR, spec: ExportSpec) -> Metadata:
    """Metadata of the artefact before its verification."""
    config = model.config
    level_shapes = model.level_shapes(spec.height, spec.width)
    complexity = count(config, spec.height, spec.width, level_shapes)
    return Metadata(
        name=artefact_name(config, spec),
        architecture=config.short_name,
        model=config.to_dict(),
        height=spec.height,
        width=spec.width,
        level_shapes=level_shapes,
        batch=spec.batch,
        rho=(config.rho if spec.dynamic_rho else spec.rho) if config.is_sparse else None,
        dynamic_rho=spec.dynamic_rho,
        padded=spec.padded,
        input_dtype="uint8" if spec.uint8_input else "float32",
        outputs=spec.outputs,
        num_detections=spec.num_detections,
        num_queries=config.num_queries,
        num_classes=config.num_classes,
        class_names=spec.class_names,
        precision=PRECISIONS[spec.precision],
        opset=OPSET,
        inlined=spec.inline_functions,
        custom_ops={} if spec.inline_functions else _called_ops(config),
        checkpoint={key: _encodable(value) for key, value in model.source.items()},
        gmacs_fixed=complexity.fixed / 1e9,
        gmacs_per_kept_token=complexity.per_kept_token / 1e9,
        versions={"torch": torch.__version__, "onnx": onnx.__version__, "onnxscript": onnxscript.__version__},
        toolkit_version=__version__,
    )


def _encodable(value: Any) -> Any:
    """A name of a file may hold bytes that are no text, which no document takes."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _called_ops(config: ModelConfig) -> dict[str, int]:
    """The custom ops of a graph that keeps them, with their versions: a dense encoder selects no tokens."""
    return {name: version for name, version in CUSTOM_OPS.items() if config.is_sparse or name != "SelectTokens"}


def set_metadata(proto: onnx.ModelProto, metadata: Metadata) -> None:
    """Write ``metadata`` into the file's properties, in place of an older one."""
    others = {entry.key: entry.value for entry in proto.metadata_props if entry.key != METADATA_KEY}
    onnx.helper.set_model_props(proto, {**others, METADATA_KEY: metadata.to_json()})
    proto.producer_name, proto.producer_version = "sparse-detr-deploy", __version__


def add_probe_outputs(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose extra outputs show the selections: what a verification compares before the detections.

    ``probe_scores`` [B, N] and ``probe_indices`` [B, K] of ``SelectTokens``; ``probe_proposals`` [B, Q] of two-stage
    models. Inlined files have no ``SelectTokens`` to probe: verify them before the expansion.
    """
    probed = copy.deepcopy(proto)
    for node in probed.graph.node:
        if node.domain == DOMAIN and node.op_type == "SelectTokens":
            _expose(probed, node.input[0], "probe_scores", onnx.TensorProto.FLOAT)
            _expose(probed, node.output[0], "probe_indices", onnx.TensorProto.INT64)
    proposals = _proposal_topk(probed)
    if proposals is not None:
        _expose(probed, proposals.output[1], "probe_proposals", onnx.TensorProto.INT64)
    return probed


def _proposal_topk(proto: onnx.ModelProto) -> onnx.NodeProto | None:
    """The TopK that picks the object queries: the first in the graph, unless only the one of the detections is left."""
    metadata = Metadata.from_json(next(entry.value for entry in proto.metadata_props if entry.key == METADATA_KEY))
    topk = [node for node in proto.graph.node if node.op_type == "TopK" and node.domain == ""]
    return topk[0] if metadata.model["two_stage"] else None


def _expose(proto: onnx.ModelProto, value: str, name: str, dtype: int) -> None:
    proto.graph.node.append(onnx.helper.make_node("Identity", [value], [name]))
    proto.graph.output.append(onnx.helper.make_tensor_value_info(name, dtype, [None, None]))


def _inputs(spec: ExportSpec, model: SparseDETR) -> tuple[dict[str, Tensor | None], tuple[Any, ...] | None]:
    """Example inputs by name, and which of their dimensions are dynamic."""
    smallest, _, largest = spec.batch
    example = smallest if smallest == largest else max(2, smallest)
    images = torch.zeros(example, 3, spec.height, spec.width, dtype=torch.uint8 if spec.uint8_input else torch.float32)
    sizes = torch.tensor([[spec.height, spec.width]] * example) if spec.padded else None
    keep = torch.full((example if spec.padded else 1,), 2) if spec.dynamic_rho else None
    if smallest == largest:
        return {"images": images, "image_sizes": sizes, "num_keep": keep}, None
    batch = torch.export.Dim("batch", min=smallest, max=largest)
    dynamic = (
        {0: batch},
        {0: batch} if spec.padded else None,
        ({0: batch} if spec.padded else {}) if spec.dynamic_rho else None,
    )
    return {"images": images, "image_sizes": sizes, "num_keep": keep}, dynamic


def _output_names(spec: ExportSpec) -> list[str]:
    return ["pred_logits", "pred_boxes"] if spec.outputs == "raw" else ["boxes", "scores", "labels"]
