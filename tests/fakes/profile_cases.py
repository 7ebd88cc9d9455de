"""Profiles that TensorRT takes, and those that it refuses, with the moment of it; the same for the real one and the fake.

What stands here was seen with TensorRT-RTX 1.7.1, which builds without a GPU.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

BUILT, NOT_BUILT, NOT_ADDED = "built", "not built", "not added"
REST = (3, 4, 5)
GOOD = ("images", (1, *REST), (2, *REST), (4, *REST))
KEEP = ("num_keep", [1], [3], [5])
Call = tuple[Any, ...]


def shapes(*given: tuple[int, ...]) -> list[Call]:
    """A profile of ``images`` alone."""
    return [("images", *given)]


# title: (whether the batch varies, whether there is num_keep, calls, what becomes of it); a call whose first range is
# a list is of set_shape_input; None for the calls: no profile
CASES: dict[str, tuple[bool, bool, list[Call] | None, str]] = {
    "no profile where the batch varies": (True, False, None, NOT_BUILT),
    "no profile where there are tokens": (False, True, None, NOT_BUILT),
    "no profile where all is fixed": (False, False, None, BUILT),
    "good": (True, False, [GOOD], BUILT),
    "min over opt": (True, False, shapes((3, *REST), (2, *REST), (4, *REST)), NOT_ADDED),
    "opt over max": (True, False, shapes((1, *REST), (5, *REST), (4, *REST)), NOT_ADDED),
    "batch 0": (True, False, shapes((0, *REST), (1, *REST), (4, *REST)), BUILT),
    "unknown dimension": (True, False, shapes((-1, *REST), (1, *REST), (4, *REST)), NOT_BUILT),
    "ranks differ": (True, False, shapes(REST, (1, *REST), (4, *REST)), NOT_ADDED),
    "rank of another tensor": (True, False, shapes((1, 3, 4), (1, 3, 4), (4, 3, 4)), NOT_BUILT),
    "against a fixed dimension": (True, False, shapes((1, 3, 3, 5), (1, 3, 3, 5), (4, 3, 3, 5)), NOT_BUILT),
    "a range of a fixed dimension": (True, False, shapes((1, 3, 3, 5), (1, *REST), (4, *REST)), NOT_BUILT),
    "another name": (True, False, [("imges", *GOOD[1:])], NOT_BUILT),
    "another name beside": (True, False, [GOOD, ("imges", *GOOD[1:])], BUILT),
    "a profile that says nothing": (True, False, [], NOT_BUILT),
    "fixed, and said so": (False, False, shapes(*[(1, *REST)] * 3), BUILT),
    "fixed, and said otherwise": (False, False, shapes((1, *REST), (1, *REST), (2, *REST)), NOT_BUILT),
    "fixed, and nothing said": (False, False, [], BUILT),
    "the last word counts": (True, False, [("images", *[(9, *REST)] * 3), GOOD], BUILT),
    "tokens": (True, True, [GOOD, KEEP], BUILT),
    "tokens: min over opt": (True, True, [GOOD, ("num_keep", [4], [3], [5])], NOT_ADDED),
    "tokens: opt over max": (True, True, [GOOD, ("num_keep", [1], [6], [5])], NOT_ADDED),
    "tokens: missing": (True, True, [GOOD], NOT_BUILT),
    "tokens: images missing": (True, True, [KEEP], NOT_BUILT),
    "tokens: two values": (True, True, [GOOD, ("num_keep", [1, 1], [3, 3], [5, 5])], NOT_BUILT),
    "tokens: numbers differ": (True, True, [GOOD, ("num_keep", [1], [3, 3], [5])], NOT_ADDED),
    "tokens: the shape in place of the value": (True, True, [GOOD, ("num_keep", (1,), (1,), (1,))], NOT_BUILT),
    "tokens: both": (True, True, [GOOD, ("num_keep", (1,), (1,), (1,)), KEEP], BUILT),
    "tokens: images fixed": (False, True, [KEEP], BUILT),
    "tokens: value of an ordinary input": (True, False, [GOOD, ("images", [1], [1], [1])], BUILT),
}


def small_graph(varies: bool, keeps: bool) -> bytes:
    """An ONNX file of ``images`` and, as the number of a TopK, ``num_keep``."""
    from onnx import TensorProto, helper

    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch" if varies else 1, *REST])]
    nodes = [helper.make_node("Exp", ["images"], ["grown"])]
    outputs = [helper.make_tensor_value_info("grown", TensorProto.FLOAT, None)]
    if keeps:
        inputs.append(helper.make_tensor_value_info("num_keep", TensorProto.INT64, [1]))
        nodes.append(helper.make_node("TopK", ["grown", "num_keep"], ["most", "where"], axis=3))
        outputs.append(helper.make_tensor_value_info("most", TensorProto.FLOAT, None))
    graph = helper.make_graph(nodes, "small", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    serialized: bytes = model.SerializeToString()
    return serialized


def outcome(trt: Any, varies: bool, keeps: bool, calls: list[Call] | None) -> str:
    """What ``trt``, real or not, makes of a profile."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            pass

    logger = Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(small_graph(varies, keeps))
    profile = builder.create_optimization_profile()
    for name, *ranges in calls or []:
        with contextlib.suppress(RuntimeError):  # our builder does not go on
            (profile.set_shape_input if isinstance(ranges[0], list) else profile.set_shape)(name, *ranges)
    config = builder.create_builder_config()
    if calls is not None and config.add_optimization_profile(profile) < 0:
        return NOT_ADDED
    return NOT_BUILT if builder.build_serialized_network(network, config) is None else BUILT


if __name__ == "__main__":
    import tensorrt_rtx

    print("RESULT", json.dumps({title: outcome(tensorrt_rtx, *case[:3]) for title, case in CASES.items()}))
