"""Weights in other files are found wherever a tensor can be, and refused by every runner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sparse_detr_deploy.detector import Detector
from sparse_detr_deploy.errors import ArtefactError
from sparse_detr_deploy.onnx_external_data import check_self_contained
from tests.conftest import Export


def outside() -> TensorProto:
    tensor = numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    return tensor


def graph(*nodes: onnx.NodeProto, weights: tuple[TensorProto, ...] = ()) -> onnx.GraphProto:
    return helper.make_graph(
        list(nodes), "g", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])], list(weights)
    )


def constant(name: str = "y") -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=outside())


def initializer() -> onnx.ModelProto:
    return helper.make_model(graph(helper.make_node("Identity", ["w"], ["y"]), weights=(outside(),)))


def attribute() -> onnx.ModelProto:
    return helper.make_model(graph(constant()))


def subgraph() -> onnx.ModelProto:
    condition = helper.make_node("If", ["c"], ["y"], then_branch=graph(constant()), else_branch=graph(constant()))
    return helper.make_model(graph(condition))


def function() -> onnx.ModelProto:
    body = helper.make_function("d", "F", [], ["y"], [constant()], [helper.make_opsetid("", 20)])
    return helper.make_model(graph(helper.make_node("F", [], ["y"], domain="d")), functions=[body])


def sparse() -> onnx.ModelProto:
    model = initializer()
    model.graph.sparse_initializer.add(values=outside(), indices=numpy_helper.from_array(np.arange(4), "i"), dims=[9])
    del model.graph.initializer[:]
    return model


def location_alone() -> onnx.ModelProto:
    model = initializer()
    model.graph.initializer[0].ClearField("external_data")
    return model


def entry_alone() -> onnx.ModelProto:
    model = initializer()
    model.graph.initializer[0].ClearField("data_location")
    return model


@pytest.mark.parametrize(
    "make",
    [initializer, attribute, subgraph, function, sparse, location_alone, entry_alone],
    ids=lambda make: make.__name__,
)
def test_found_wherever_it_is(make: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(make().SerializeToString())
    with pytest.raises(ArtefactError, match=r"x\.onnx keeps weights in other files"):
        check_self_contained(path)


def test_what_is_whole_passes(export_tiny: Export, tmp_path: Path) -> None:
    check_self_contained(export_tiny().path)
    model = initializer()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.arange(4, dtype=np.float32), "w"))
    model.graph.initializer[0].data_location = TensorProto.DEFAULT
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    check_self_contained(tmp_path / "x.onnx")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_no_runner_takes_it(backend: str, export_tiny: Export, tmp_path: Path) -> None:
    """Both runtimes would read a file that lies beside the model."""
    model = onnx.load(export_tiny(inline_functions=True).path)
    path = tmp_path / "x.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="w.bin", size_threshold=10_000)
    with pytest.raises(ArtefactError, match="keeps weights in other files"):
        Detector.load(path, backend)


def test_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    for content in (b"", b"\x3a\x7f\x0a", b"\x3a\x03\x0a\x01\xff", b"\x3a\x00" * 2_000_001):
        path.write_bytes(content)
        with pytest.raises(ArtefactError, match=r"x\.onnx is truncated or not an ONNX file"):
            check_self_contained(path)
