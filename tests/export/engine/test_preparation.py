"""Graphs for TensorRT say the same as the file they come from, and carry what its parser needs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from sparse_detr_deploy.errors import ArtefactError, InputError
from sparse_detr_deploy.export.engine import preparation, selection
from sparse_detr_deploy.export.engine.preparation import count_calls, plugin_graph, selection_of, standard_graph
from sparse_detr_deploy.export.pipeline import ExportResult
from sparse_detr_deploy.preprocessing import Feed, prepare
from sparse_detr_deploy.synthetic_image import synthetic_image
from tests.closeness import assert_close_to_scale
from tests.conftest import NAMES, SIZE, Export

FORMS: dict[str, dict[str, Any]] = {
    "fixed": {},
    "dynamic": {"dynamic_rho": True, "class_names": NAMES},
    "padded": {"padded": True},
    "padded dynamic": {"padded": True, "dynamic_rho": True},
    "batches": {"batch": (2, 3, 4)},
    "raw": {"outputs": "raw"},
    "fp16": {"precision": "fp16"},
}


@pytest.fixture(autouse=True)
def _small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if TensorRT's TopK took 50: 256 tokens then need several rounds."""
    monkeypatch.setattr(selection, "MAX_TOPK", 50)
    monkeypatch.setattr(preparation, "MAX_TOPK", 50)


def feed_of(result: ExportResult) -> Feed:
    metadata = result.metadata
    size = (SIZE[0] // 2, SIZE[1]) if metadata.padded else SIZE
    images = [synthetic_image(seed, *size) for seed in range(metadata.batch[1])]
    return prepare(images, metadata, keep_ratio=0.55 if metadata.dynamic_rho else None)


def run(proto: onnx.ModelProto, feed: Feed) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feed))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("prepared", ["plugins", "standard ops"])
def test_the_same_results(form: str, prepared: str, export_tiny: Export) -> None:
    """ONNX Runtime runs the bodies of the plugin form: what a parser without the plugins takes."""
    result = export_tiny(**FORMS[form])
    proto = onnx.load(result.path)
    if prepared == "plugins":
        graph = plugin_graph(proto, result.metadata, keep_bodies=True)
    else:
        graph = standard_graph(proto, result.metadata)
        assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}
        assert not graph.functions
    onnx.checker.check_model(graph)
    feed = feed_of(result)
    fraction = 1e-3 if form == "fp16" else 1e-5
    for found, wanted in zip(run(graph, feed), run(proto, feed), strict=True):
        assert_close_to_scale(found, wanted, fraction)


def topk_counts(graph: onnx.ModelProto) -> int:
    return sum(node.op_type == "TopK" for node in graph.graph.node)


def test_rounds_are_in_the_graph(export_tiny: Export) -> None:
    """77 tokens in rounds of 50, or any of 256 tokens; the queries and detections have a TopK each."""
    for form, rounds in (("fixed", 2), ("dynamic", 6)):
        result = export_tiny(**FORMS[form])
        assert topk_counts(standard_graph(onnx.load(result.path), result.metadata)) == rounds + 2
        assert selection_of(result.metadata, plugins=False) == "top-k rounds"
        assert selection_of(result.metadata, plugins=True) == "plugin"


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


@pytest.mark.parametrize("form", ["fixed", "dynamic", "padded"])
def test_attributes_of_the_plugins(form: str, export_tiny: Export) -> None:
    result = export_tiny(**FORMS[form])
    shapes = [size for shape in result.metadata.level_shapes for size in shape]
    named = {"plugin_namespace": b"sparse_detr", "plugin_version": b"1"}
    count = {"tensorrt_plugin_shape_input_indices": [1]} if form == "dynamic" else {"max_keep": [77]}
    for keep_bodies in (True, False):
        graph = plugin_graph(onnx.load(result.path), result.metadata, keep_bodies)
        calls = [node for node in graph.graph.node if node.domain == "sparse_detr"]
        assert count_calls(graph) == {"MSDeformAttn": 4, "SelectTokens": 1}
        for node in calls:
            own = {"level_shapes": shapes} if node.op_type == "MSDeformAttn" else count
            assert attributes(node) == {**named, **own}
            assert node.name.split("_")[0] == node.op_type
        assert {function.name for function in graph.functions} == (set(count_calls(graph)) if keep_bodies else set())
        for function in graph.functions:
            called = next(node for node in calls if node.op_type == function.name)
            assert set(function.attribute) == set(attributes(called))


def test_the_given_graph_is_left_alone(export_tiny: Export) -> None:
    result = export_tiny()
    proto = onnx.load(result.path)
    before = proto.SerializeToString(deterministic=True)
    plugin_graph(proto, result.metadata, keep_bodies=False)
    standard_graph(proto, result.metadata)
    assert proto.SerializeToString(deterministic=True) == before


def test_a_dense_graph_selects_nothing(dense_result: ExportResult) -> None:
    graph = plugin_graph(onnx.load(dense_result.path), dense_result.metadata, keep_bodies=True)
    assert count_calls(graph) == {"MSDeformAttn": 4}
    assert selection_of(dense_result.metadata, plugins=True) == "none"


def test_a_topk_that_tensorrt_refuses(export_tiny: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 detections against a limit of 10."""
    monkeypatch.setattr(preparation, "MAX_TOPK", 10)
    result = export_tiny()
    for prepared in (
        lambda: standard_graph(onnx.load(result.path), result.metadata),
        lambda: plugin_graph(onnx.load(result.path), result.metadata, keep_bodies=False),
    ):
        with pytest.raises(InputError, match="takes at most 10"):
            prepared()


def test_an_edited_file(export_tiny: Export) -> None:
    """A number of tokens that the metadata do not tell would be built in, so it is refused; so is a file without calls."""
    result = export_tiny()
    proto = onnx.load(result.path)
    (call,) = [node for node in proto.graph.node if node.op_type == "SelectTokens"]
    call.input[1] = "edited"
    proto.graph.initializer.append(numpy_helper.from_array(np.array([5]), "edited"))
    with pytest.raises(ArtefactError, match="keeps 5 tokens"):
        standard_graph(proto, result.metadata)
    bare = standard_graph(onnx.load(result.path), result.metadata)
    with pytest.raises(ArtefactError, match="export it again"):
        plugin_graph(bare, result.metadata, keep_bodies=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"enc_n_points": 9}, "9 points of a level"),
        ({"dec_n_points": 9}, "9 points of a level, and the plugin takes at most 8"),
        ({"hidden_dim": 96, "nheads": 8}, "a head has 12 channels, and the plugin takes multiples of 8 up to 64"),
        ({"hidden_dim": 576, "nheads": 8}, "a head has 72 channels"),
    ],
)
def test_an_attention_that_the_plugin_does_not_take(change: dict[str, int], message: str, export_tiny: Export) -> None:
    result = export_tiny()
    metadata = dataclasses.replace(result.metadata, model={**result.metadata.model, **change})
    with pytest.raises(InputError, match=message):
        plugin_graph(onnx.load(result.path), metadata, keep_bodies=True)


def test_the_limit_is_that_of_the_kernels() -> None:
    header = (Path(__file__).parents[3] / "plugins" / "kernels" / "sampling.h").read_text()
    assert f"constexpr int kMaxPoints = {preparation.MAX_POINTS};" in header
