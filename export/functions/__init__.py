"""ONNX function bodies of the custom ops: the same meaning as the PyTorch twins, in standard ops of opset 20.

They travel inside every exported file, so that a runtime without our kernels can run it.
"""

from __future__ import annotations

import onnx

from sparse_detr_deploy.export.functions.ms_deform_attn import MS_DEFORM_ATTN
from sparse_detr_deploy.export.functions.select_tokens import SELECT_TOKENS

DOMAIN = "sparse_detr"
OP_VERSION = 1
OPSET = 20
CUSTOM_OPS = {"MSDeformAttn": OP_VERSION, "SelectTokens": OP_VERSION}


_FLOATS = ("T", ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"], "floating point")
_SIGNATURES = {
    "MSDeformAttn": (
        {
            "value": "T",
            "spatial_shapes": "tensor(int64)",
            "reference_points": "T",
            "sampling_offsets": "T",
            "attention_logits": "T",
        },
        {"output": "T"},
    ),
    "SelectTokens": ({"scores": "T", "num_keep": "tensor(int64)"}, {"indices": "tensor(int64)"}),
}


def op_schema(op_type: str) -> onnx.defs.OpSchema:
    """Inputs, outputs and types of a custom op."""
    parameter = onnx.defs.OpSchema.FormalParameter
    inputs, outputs = _SIGNATURES[op_type]
    return onnx.defs.OpSchema(
        op_type,
        DOMAIN,
        OP_VERSION,
        inputs=[parameter(name, kind) for name, kind in inputs.items()],
        outputs=[parameter(name, kind) for name, kind in outputs.items()],
        type_constraints=[_FLOATS],
    )


def function_protos() -> list[onnx.FunctionProto]:
    """The bodies of all custom ops, as parsed from their text."""
    return [onnx.parser.parse_function(text) for text in (MS_DEFORM_ATTN, SELECT_TOKENS)]


def add_functions(model: onnx.ModelProto) -> None:
    """Put the bodies of the custom ops that ``model`` calls into it, and import their domain."""
    called = {node.op_type for node in model.graph.node if node.domain == DOMAIN}
    model.functions.extend(function for function in function_protos() if function.name in called)
    if called and DOMAIN not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, OP_VERSION))
