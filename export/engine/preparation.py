"""From an exported ONNX file to the graph that TensorRT's parser is given. Works on the proto; no TensorRT is needed."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import onnx
import onnx.inliner
from onnx import helper, numpy_helper

from sparse_detr_deploy.errors import ArtefactError, InputError
from sparse_detr_deploy.export.engine.selection import count_rounds, selection_body
from sparse_detr_deploy.export.engine.spec import MAX_TOPK
from sparse_detr_deploy.export.functions import DOMAIN
from sparse_detr_deploy.metadata import Metadata

PLUGIN_VERSION = "1"
MAX_POINTS, MAX_CHANNELS = 8, 64  # as in plugins/kernels
_SIZES = ("hidden_dim", "nheads", "enc_n_points", "dec_n_points")  # of the model, which the metadata tell
SHAPE_INPUTS = "tensorrt_plugin_shape_input_indices"  # the parser's name for inputs that are shape tensors


def plugin_graph(proto: onnx.ModelProto, metadata: Metadata, keep_bodies: bool) -> onnx.ModelProto:
    """A copy whose custom ops are calls of the plugins ``sparse_detr::MSDeformAttn`` and ``sparse_detr::SelectTokens``.

    The attribute ``plugin_namespace`` makes the parser take the plugin where it is registered and the body where it is
    not (TensorRT 10.15 and newer, TensorRT-RTX). Older parsers take the body always, so for them there must be none.

    Args:
        proto: an exported file.
        metadata: of that file.
        keep_bodies: keep the functions; the one of ``SelectTokens`` in its form for TensorRT.

    Raises:
        InputError: the plugins do not take what it calls them with, or a TopK is too large.
    """
    check_attention(metadata)
    graph = _own_selection(proto, metadata)
    attributes = {op_type: _attributes(op_type, metadata) for op_type in ("MSDeformAttn", "SelectTokens")}
    for index, node in enumerate(graph.graph.node):
        if node.domain == DOMAIN:
            node.name = f"{node.op_type}_{index}"  # so that its layer can be told
            del node.attribute[:]
            node.attribute.extend(
                helper.make_attribute(name, value) for name, value in attributes[node.op_type].items()
            )
    if keep_bodies:
        for function in graph.functions:
            function.attribute.extend(attributes[function.name])
    else:
        del graph.functions[:]
    check_topk(graph)
    return graph


def standard_graph(proto: onnx.ModelProto, metadata: Metadata) -> onnx.ModelProto:
    """A copy of standard ops only, every TopK within TensorRT's limit."""
    inlined: onnx.ModelProto = onnx.inliner.inline_local_functions(_own_selection(proto, metadata))
    imports = [entry for entry in inlined.opset_import if entry.domain != DOMAIN]
    del inlined.opset_import[:]
    inlined.opset_import.extend(imports)
    check_topk(inlined)
    return inlined


def count_calls(proto: onnx.ModelProto) -> dict[str, int]:
    """How often the graph calls each custom op."""
    names = [node.op_type for node in proto.graph.node if node.domain == DOMAIN]
    return {name: names.count(name) for name in sorted(set(names))}


def selection_of(metadata: Metadata, plugins: bool) -> str:
    """What selects the tokens, as in :class:`~sparse_detr_deploy.engine_record.EngineRecord`."""
    if metadata.rho is None:
        return "none"
    if plugins:
        return "plugin"
    most = metadata.token_count if metadata.dynamic_rho else metadata.num_keep()
    return "top-k rounds" if count_rounds(most or 1) > 1 else "top-k"


def check_attention(metadata: Metadata) -> None:
    """Raise :class:`InputError` where the attention is larger than what the plugin takes, :class:`ArtefactError` where
    the metadata do not tell its sizes."""
    missing = [name for name in _SIZES if name not in metadata.model]
    if missing:
        raise ArtefactError(
            f"{metadata.name}: its metadata do not say {', '.join(missing)} of the model; export it again"
        )
    channels = metadata.model["hidden_dim"] // metadata.model["nheads"]
    if channels % 8 or channels > MAX_CHANNELS:
        raise InputError(
            f"a head has {channels} channels, and the plugin takes multiples of 8 up to {MAX_CHANNELS}: "
            "--engine tensorrt-rtx builds it of standard operators"
        )
    most = max(metadata.model["enc_n_points"], metadata.model["dec_n_points"])
    if most > MAX_POINTS:
        raise InputError(
            f"the attention samples {most} points of a level, and the plugin takes at most {MAX_POINTS}: "
            "--engine tensorrt-rtx builds it of standard operators"
        )


def check_topk(proto: onnx.ModelProto) -> None:
    """Raise :class:`InputError` where a TopK of known size takes more than TensorRT's does."""
    nodes = [*proto.graph.node, *(node for function in proto.functions for node in function.node)]
    known = _constant_counts(nodes, proto.graph.initializer)
    for node in nodes:
        if node.op_type == "TopK" and node.domain == "" and known.get(node.input[1], 0) > MAX_TOPK:
            raise InputError(
                f"the node {node.name or node.output[0]} is a TopK of {known[node.input[1]]}, and TensorRT's takes at "
                f"most {MAX_TOPK}: export with fewer --num-detections, or --outputs raw"
            )


def _constant_counts(nodes: Iterable[onnx.NodeProto], initializers: Iterable[onnx.TensorProto]) -> dict[str, int]:
    """Constant integers by the name of their value; of several in one tensor the largest."""
    tensors = {tensor.name: tensor for tensor in initializers}
    for node in nodes:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    return {
        name: int(numpy_helper.to_array(tensor).max())
        for name, tensor in tensors.items()
        if tensor.data_type == onnx.TensorProto.INT64 and all(tensor.dims)
    }


def _attributes(op_type: str, metadata: Metadata) -> dict[str, Any]:
    attributes: dict[str, Any] = {"plugin_namespace": DOMAIN, "plugin_version": PLUGIN_VERSION}
    if op_type == "MSDeformAttn":
        attributes["level_shapes"] = [size for shape in metadata.level_shapes for size in shape]
    elif metadata.dynamic_rho:
        attributes[SHAPE_INPUTS] = [1]
    else:
        attributes["max_keep"] = [metadata.num_keep() or 1]
    return attributes


def _own_selection(proto: onnx.ModelProto, metadata: Metadata) -> onnx.ModelProto:
    """A copy that has the body of ``SelectTokens`` for TensorRT in the place of the usual one."""
    graph = copy.deepcopy(proto)
    calls = count_calls(graph)
    missing = set(calls) - {function.name for function in graph.functions if function.domain == DOMAIN}
    if "MSDeformAttn" not in calls or missing:
        raise ArtefactError(
            f"{metadata.name} does not call the custom ops as sparse-detr-export writes them: export it again"
        )
    max_keep = None if metadata.dynamic_rho else metadata.num_keep()
    _check_count(graph, metadata.name, max_keep)
    for function in graph.functions:
        if function.domain == DOMAIN and function.name == "SelectTokens":
            function.CopyFrom(selection_body(metadata.token_count, max_keep, metadata.padded))
    return graph


def _check_count(graph: onnx.ModelProto, name: str, max_keep: int | None) -> None:
    """A constant number of tokens in the graph must be the one that the metadata tell."""
    known = _constant_counts(graph.graph.node, graph.graph.initializer)
    for node in graph.graph.node:
        if node.domain == DOMAIN and node.op_type == "SelectTokens":
            count = known.get(node.input[1], max_keep)
            if count != max_keep:
                raise ArtefactError(
                    f"{name} keeps {count} tokens, but its metadata say {max_keep}: it was edited; export it again"
                )
