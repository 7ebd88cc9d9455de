"""Body of ``sparse_detr::SelectTokens`` for TensorRT, whose TopK takes at most 3840: several rounds of it.

Each round takes the best scores of what is left and lowers them to −inf, so that the rounds, one after the other, are
the order that one large TopK gives. Scores are lifted to the lowest finite number first: a score of −inf would be
taken twice (and so counts as equal to the lowest finite number; ties go to the lower index, as TopK orders them).

The indices come in the order of the scores, not ascending as from the other forms: the order is free, and sorting them
would need a second TopK of the same size.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sparse_detr_deploy.export.engine.spec import MAX_TOPK
from sparse_detr_deploy.export.functions import DOMAIN, OPSET


def count_rounds(most: int) -> int:
    """Rounds of TopK that keeping up to ``most`` tokens takes."""
    return -(-most // MAX_TOPK)


def selection_body(token_count: int, max_keep: int | None, per_image: bool) -> onnx.FunctionProto:
    """The function.

    Args:
        token_count: N, tokens of an image.
        max_keep: K, indices to give; ``None``: ``num_keep`` [1], a number that only the run knows.
        per_image: with ``max_keep``: ``num_keep`` [B] is what each image keeps, and it repeats its own indices.
    """
    nodes = list(_nodes(token_count, max_keep, per_image))
    imports = [helper.make_opsetid("", OPSET)]
    return helper.make_function(DOMAIN, "SelectTokens", ["scores", "num_keep"], ["indices"], nodes, imports)


def _nodes(token_count: int, max_keep: int | None, per_image: bool) -> Iterator[onnx.NodeProto]:
    rounds = count_rounds(token_count if max_keep is None else max_keep)
    left = "scores"
    if rounds > 1:
        yield _constant("lowest", np.array(np.finfo(np.float32).min))
        yield _constant("taken", np.array(-np.inf, np.float32))
        yield _constant("limit", np.array([MAX_TOPK]))
        yield _constant("none", np.array([0]))
        yield helper.make_node("Cast", ["scores"], ["scores_float"], to=onnx.TensorProto.FLOAT)
        yield helper.make_node("Max", ["scores_float", "lowest"], ["left_0"])
        left = "left_0"
    for index in range(rounds):
        done = index * MAX_TOPK
        if max_keep is not None:
            yield _constant(f"count_{index}", np.array([min(max_keep - done, MAX_TOPK)]))
        elif rounds == 1:
            yield helper.make_node("Identity", ["num_keep"], ["count_0"])
        else:
            yield _constant(f"done_{index}", np.array([done]))
            yield helper.make_node("Sub", ["num_keep", f"done_{index}"], [f"open_{index}"])
            yield helper.make_node("Min", [f"open_{index}", "limit"], [f"limited_{index}"])
            yield helper.make_node("Max", [f"limited_{index}", "none"], [f"count_{index}"])
        outputs = [f"scores_{index}", f"indices_{index}"]
        yield helper.make_node("TopK", [left, f"count_{index}"], outputs, axis=1, largest=1, sorted=1)
        if index < rounds - 1:
            yield helper.make_node("Shape", [f"indices_{index}"], [f"shape_{index}"])
            yield helper.make_node("Expand", ["taken", f"shape_{index}"], [f"taken_{index}"])
            updates = [left, f"indices_{index}", f"taken_{index}"]
            left = f"left_{index + 1}"
            yield helper.make_node("ScatterElements", updates, [left], axis=1)
    parts = [f"indices_{index}" for index in range(rounds)]
    chosen = "chosen" if max_keep is not None and per_image else "indices"
    yield helper.make_node("Concat", parts, [chosen], axis=1)
    if max_keep is not None and per_image:
        yield from _repeats(max_keep)


def _repeats(max_keep: int) -> Iterator[onnx.NodeProto]:
    """From ``chosen`` [B, K] the first ``num_keep`` [B] of each image, over and over."""
    yield _constant("positions", np.arange(max_keep)[None])
    yield _constant("columns", np.array([1]))
    yield helper.make_node("Unsqueeze", ["num_keep", "columns"], ["counts"])
    yield helper.make_node("Mod", ["positions", "counts"], ["own_positions"])
    yield helper.make_node("Shape", ["chosen"], ["chosen_shape"])
    yield helper.make_node("Expand", ["own_positions", "chosen_shape"], ["places"])
    yield helper.make_node("GatherElements", ["chosen", "places"], ["indices"], axis=1)


def _constant(name: str, value: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name))
