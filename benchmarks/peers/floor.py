"""The floor: how long the convolutions and matrix products of an artefact take alone.

The convolutions stay a chain, with the ReLUs, residual additions and pooling between them, which ONNX Runtime fuses
into them or runs in the same blocked layout. Every matrix product is cut out: its weights stay constants, its
activations become inputs of their true shape, and one row of its result is kept, so that it has to be computed.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import NodeProto, TensorProto, helper

from sparse_detr_deploy.errors import ArtefactError

CHAIN = ("Relu", "Add", "MaxPool")
PRODUCTS = ("MatMul", "Gemm")

Shape = tuple[int, ...]


def build_floor(source: Path, target: Path) -> dict[str, Any]:
    """Write the model that holds only the convolutions and matrix products of the artefact ``source``.

    Products inside of custom ops are not among them: those ops replace something that is no product.

    Returns:
        ``convolutions`` and ``products`` (how many) and ``gmacs`` (10⁹ multiply-adds).

    Raises:
        ArtefactError: a shape in ``source`` is not fixed.
    """
    proto = onnx.load(source)
    shapes = _shapes(proto)
    constants = _constants(proto)
    chain = _chain(proto, constants)
    nodes: list[NodeProto] = []
    inputs: dict[str, Shape] = {}
    sinks: list[str] = []
    counts: collections.Counter[str] = collections.Counter()
    seen: collections.Counter[tuple[Any, ...]] = collections.Counter()
    macs = 0
    consumed = {name for node in proto.graph.node if node.output[0] in chain for name in node.input}
    for node in proto.graph.node:
        result = node.output[0]
        if result in constants:
            nodes.append(node)
        elif result in chain:
            outside = [name for name in node.input if name not in constants and name not in chain]
            inputs.update({name: _shape(name, shapes) for name in outside})
            nodes.append(node)
            if result not in consumed:
                sinks.append(result)
        elif node.op_type in PRODUCTS:
            nodes.append(_cut_out(node, constants, shapes, inputs, seen))
            sinks.append(result)
        if result not in constants and node.op_type in ("Conv", *PRODUCTS):
            counts[node.op_type] += 1
            macs += _macs(node, shapes)
    _write(proto, nodes, inputs, sinks, target)
    products = sum(counts[kind] for kind in PRODUCTS)
    return {"convolutions": counts["Conv"], "products": products, "gmacs": round(macs / 1e9, 2)}


def _constants(proto: onnx.ModelProto) -> set[str]:
    """Names of the weights and of all that is computed from weights alone (ONNX Runtime does so when it loads)."""
    constants = {tensor.name for tensor in proto.graph.initializer} | {""}
    for node in proto.graph.node:
        if all(name in constants for name in node.input):
            constants.update(node.output)
    return constants


def _chain(proto: onnx.ModelProto, constants: set[str]) -> set[str]:
    """Results of the convolutions and of the :data:`CHAIN` ops between two of them."""
    after: set[str] = set()
    for node in proto.graph.node:
        sources = [name for name in node.input if name not in constants]
        if sources and (node.op_type == "Conv" or (node.op_type in CHAIN and all(name in after for name in sources))):
            after.add(node.output[0])
    chain: set[str] = set()
    wanted: set[str] = set()
    for node in reversed(proto.graph.node):
        if node.output[0] in after and (node.op_type == "Conv" or node.output[0] in wanted):
            chain.add(node.output[0])
            wanted.update(node.input)
    return chain


def _cut_out(
    node: NodeProto,
    constants: set[str],
    shapes: Mapping[str, Shape],
    inputs: dict[str, Shape],
    seen: collections.Counter[tuple[Any, ...]],
) -> NodeProto:
    """The product on inputs of its own; products share them by shape, but no two equal products do (they would merge)."""
    copy = NodeProto()
    copy.CopyFrom(node)
    described = tuple(name if name in constants else _shape(name, shapes) for name in node.input)
    for index, name in enumerate(node.input):
        if name not in constants:
            shape = _shape(name, shapes)
            copy.input[index] = f"input_{'x'.join(map(str, shape))}_{seen[described]}"
            inputs[copy.input[index]] = shape
    seen[described] += 1
    return copy


def _macs(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Multiply-adds: elements of the result times the length of the sums."""
    first, second = _shape(node.input[0], shapes), _shape(node.input[1], shapes)
    if node.op_type == "Conv":
        length = math.prod(second[1:])
    else:
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        length = first[-2 if transposed else -1]
    return math.prod(_shape(node.output[0], shapes)) * length


def _write(
    proto: onnx.ModelProto, nodes: list[NodeProto], inputs: dict[str, Shape], sinks: list[str], target: Path
) -> None:
    """Save a model of ``nodes`` whose one output holds a row of each sink."""
    parts = []
    for index, sink in enumerate(sinks):
        row, part = f"row_{index}", f"part_{index}"
        nodes.append(helper.make_node("Slice", [sink, "slice_start", "slice_end", "slice_axis"], [row]))
        nodes.append(helper.make_node("Reshape", [row, "flat"], [part]))
        parts.append(part)
    nodes.append(helper.make_node("Concat", parts, ["rows"], axis=0))
    tensors = list(proto.graph.initializer)
    for name, value in (("slice_start", 0), ("slice_end", 1), ("slice_axis", -2), ("flat", -1)):
        tensors.append(helper.make_tensor(name, TensorProto.INT64, [1], [value]))
    needed = {"rows"}
    kept = []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.output):
            needed.update(node.input)
            kept.append(node)
    graph = helper.make_graph(
        kept[::-1],
        "floor",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None])],
        [tensor for tensor in tensors if tensor.name in needed],
    )
    opsets = [entry for entry in proto.opset_import if entry.domain == ""]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=proto.ir_version)
    onnx.checker.check_model(model)
    onnx.save(model, target)


def _shapes(proto: onnx.ModelProto) -> dict[str, Shape]:
    """Shapes of all values that have a fixed one."""
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    for value in (*proto.graph.input, *proto.graph.value_info, *proto.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if all(dimension.HasField("dim_value") for dimension in dimensions):
            shapes[value.name] = tuple(dimension.dim_value for dimension in dimensions)
    return shapes


def _shape(name: str, shapes: Mapping[str, Shape]) -> Shape:
    if name not in shapes:
        raise ArtefactError(f"the shape of {name} is not fixed: the floor is measured on artefacts of one batch size")
    return shapes[name]
