"""Half precision: what is float16, what stays float32, and that it is the same detector."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sparse_detr_deploy.errors import InputError, VerificationError
from sparse_detr_deploy.export import ExportSpec, artefact_name
from sparse_detr_deploy.export.comparison import VerificationReport, compare
from sparse_detr_deploy.export.exported_module import ExportedModule
from sparse_detr_deploy.export.graph import describe
from sparse_detr_deploy.export.pipeline import ExportResult, export_artefacts
from sparse_detr_deploy.export.precision import HalfDetector, _Casts
from sparse_detr_deploy.export.random_weights import random_model
from sparse_detr_deploy.export.tolerances import FLOAT32, tolerances_of
from sparse_detr_deploy.export.verification import verify
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.modeling import SparseDETR, sparse_config
from sparse_detr_deploy.preprocessing import Feed, prepare
from sparse_detr_deploy.runners.onnxruntime import OnnxRuntimeRunner
from sparse_detr_deploy.synthetic_image import synthetic_image
from tests.closeness import assert_close_to_scale
from tests.conftest import SIZE, TINY, Export
from tests.export.engine.rtx import results, run_rtx
from tests.export.test_verification import probed_run

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
SPEC = ExportSpec(*SIZE, rho=0.3, num_detections=20, precision="fp16")
FLOAT16 = tolerances_of(Metadata("", "", {}, *SIZE, (), precision="float16"))


@pytest.fixture(scope="module")
def half_file(export_tiny: Export) -> ExportResult:
    return export_tiny(precision="fp16")


@pytest.fixture(scope="module")
def half_graph(half_file: ExportResult) -> onnx.ModelProto:
    """With the type of every value."""
    return onnx.shape_inference.infer_shapes(onnx.load(half_file.path), strict_mode=True, data_prop=True)


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """Element types of all values by name."""
    graph = model.graph
    values = {
        value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)
    }
    return {**values, **{tensor.name: tensor.data_type for tensor in graph.initializer}}


def outputs(model: onnx.ModelProto, op_type: str) -> Counter[int]:
    """How many nodes of ``op_type`` give each element type."""
    types = types_of(model)
    return Counter(types[node.output[0]] for node in model.graph.node if node.op_type == op_type)


def test_weights_are_half(half_graph: onnx.ModelProto, half_file: ExportResult, export_tiny: Export) -> None:
    sizes = Counter[int]()
    for tensor in half_graph.graph.initializer:
        sizes[tensor.data_type] += onnx.numpy_helper.to_array(tensor).nbytes
    assert sizes[FLOAT] < 0.02 * sizes[HALF]
    single = sum(
        onnx.numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(export_tiny().path).graph.initializer
    )
    assert export_tiny().path.stat().st_size - half_file.path.stat().st_size > 0.45 * single


def test_layers_are_half(half_graph: onnx.ModelProto, tiny_model: SparseDETR) -> None:
    """All convolutions; all linear layers but the last of each box head, of the classes and of the scoring network."""
    assert set(outputs(half_graph, "Conv")) == {HALF}
    assert set(outputs(half_graph, "MSDeformAttn")) == {HALF}
    products = outputs(half_graph, "MatMul") + outputs(half_graph, "Gemm")
    box_heads = tiny_model.config.dec_layers + 1
    assert products[FLOAT] == box_heads + 2
    assert products[HALF] > 40


def test_islands_are_float32(half_graph: onnx.ModelProto) -> None:
    islands = ("LayerNormalization", "InstanceNormalization", "Softmax", "Sigmoid", "Log", "ReduceMean", "Sin")
    for op_type in (*islands, "SelectTokens"):
        inputs = {types_of(half_graph)[node.input[0]] for node in half_graph.graph.node if node.op_type == op_type}
        assert inputs == {FLOAT}, op_type
    types = types_of(half_graph)
    for node in half_graph.graph.node:
        if node.op_type == "MSDeformAttn":
            assert [types[name] for name in node.input] == [HALF, onnx.TensorProto.INT64, FLOAT, HALF, HALF]


def test_inputs_and_outputs_keep_their_types(half_file: ExportResult, export_tiny: Export) -> None:
    def boundary(path: Path) -> dict[str, int]:
        graph = onnx.load(path).graph
        return {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}

    integer = onnx.TensorProto.INT32
    assert boundary(half_file.path) == {"images": FLOAT, "boxes": FLOAT, "scores": FLOAT, "labels": integer}
    raw = export_tiny(precision="fp16", outputs="raw", uint8_input=True)
    assert boundary(raw.path) == {"images": onnx.TensorProto.UINT8, "pred_logits": FLOAT, "pred_boxes": FLOAT}
    assert 0 < raw.verification.raw <= FLOAT16.raw
    assert 0 < raw.verification.raw_median <= FLOAT16.raw * FLOAT16.median


def test_float32_files_hold_nothing_of_it(export_tiny: Export) -> None:
    model = onnx.load(export_tiny().path)
    assert HALF not in types_of(onnx.shape_inference.infer_shapes(model)).values()
    floats = [node for node in model.graph.node if node.op_type == "Cast" and node.attribute[0].i == FLOAT]
    assert not floats


def test_the_model_itself_stays_float32(tiny_model: SparseDETR) -> None:
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    half = ExportedModule(tiny_model, SPEC)
    assert torch.float16 in {parameter.dtype for parameter in half.parameters()}
    after = tiny_model.state_dict()
    assert list(after) == list(before)
    for name, value in before.items():
        assert after[name].dtype == value.dtype
        assert torch.equal(after[name], value), name


def test_name_and_metadata(half_file: ExportResult) -> None:
    metadata = half_file.metadata
    assert half_file.path.name == f"{metadata.name}.onnx" == "thin18_rho30_96x128_fp16.onnx"
    assert metadata.precision == "float16"
    verification = metadata.verification
    assert 0 < verification["score"] <= FLOAT16.score
    assert 0 < verification["box_pixels"] <= FLOAT16.box
    assert 0.9 < verification["shared_tokens"] <= 1
    assert verification["kernels"] == ["function bodies"]


def test_float32_files_are_called_so(export_tiny: Export) -> None:
    assert export_tiny().metadata.precision == "float32"
    assert export_tiny().metadata.verification["shared_tokens"] == 1
    assert artefact_name(sparse_config(), ExportSpec(*SIZE, rho=0.3)) == "r50_rho30_96x128"


def test_unknown_precision() -> None:
    with pytest.raises(InputError, match="'int8' is not one of fp32, fp16"):
        ExportSpec(*SIZE, rho=0.3, precision="int8")


FORMS: dict[str, dict[str, Any]] = {
    "dynamic": {"dynamic_rho": True},
    "padded": {"padded": True, "batch": (2, 2, 2)},
    "inlined": {"inline_functions": True},
}


@pytest.mark.parametrize(
    "form", [pytest.param(name, marks=pytest.mark.slow) if name != "padded" else name for name in FORMS]
)
def test_every_form_is_verified(form: str, export_tiny: Export) -> None:
    result = export_tiny(precision="fp16", **FORMS[form])
    model = onnx.load(result.path)
    onnx.checker.check_model(model, full_check=True)
    assert outputs(onnx.shape_inference.infer_shapes(model), "Conv") == {HALF: 21 + 4}
    assert 0 < result.verification.score <= FLOAT16.score


SINGLE = {"two_stage": False, "eff_query_init": False, "eff_specific_head": False, "use_enc_aux_loss": False}
FAMILY: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("r50", {"rho": 0.0}),
    "one stage": ("thin18", {"rho": 0.0, **SINGLE, "with_box_refine": False}),
    "one stage, refining": ("thin18", {"rho": 0.0, **SINGLE, "refine_references": True}),
    "two stages, shared heads": ("thin18", {"rho": 0.0, **SINGLE, "two_stage": True, "with_box_refine": False}),
    "Swin-T": ("swint", {}),
}


SLOW = ("dense", "Swin-T")


@pytest.mark.parametrize(
    "member", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in FAMILY]
)
def test_the_whole_family(member: str, tmp_path: Path) -> None:
    architecture, changes = FAMILY[member]
    model = random_model(architecture, 0, **{**TINY, **changes})
    spec = dataclasses.replace(SPEC, rho=0.3 if model.config.is_sparse else None)
    result = export_artefacts(model, [spec], tmp_path)[0]
    assert result.verification.box_pixels <= FLOAT16.box
    graph = onnx.shape_inference.infer_shapes(onnx.load(result.path), strict_mode=True, data_prop=True)
    assert set(outputs(graph, "Softmax")) == {FLOAT}
    assert set(outputs(graph, "Conv")) == {HALF}


def test_the_torch_module_in_half_is_the_same_detector(tiny_model: SparseDETR) -> None:
    half = HalfDetector(copy.deepcopy(tiny_model))
    images = torch.from_numpy(prepare([synthetic_image(0, *SIZE)], describe(tiny_model, SPEC))["images"])
    with torch.no_grad():
        found = half(images, keep_ratio=0.3)
        expected = tiny_model(images, selected_tokens=found.selected_tokens, selected_proposals=found.topk_proposals)
    assert found.pred_boxes.dtype == found.pred_logits.dtype == found.token_scores.dtype == torch.float32
    difference = (found.pred_logits.sigmoid() - expected.pred_logits.sigmoid()).abs()
    assert 0 < difference.max() <= FLOAT16.score
    assert (found.pred_boxes - expected.pred_boxes).abs().max() * 128 <= FLOAT16.box


def test_the_mean_over_the_tokens_does_not_overflow(tiny_model: SparseDETR) -> None:
    """17,821 tokens of a mean of four have a sum beyond 65,504."""
    half = HalfDetector(copy.deepcopy(tiny_model))
    with torch.no_grad():
        scoring = half.network.transformer.enc_mask_predictor
        scoring.layer1[1].bias.fill_(30)
        tokens = torch.randn(1, 17821, 64).half()
        with _Casts():
            assert torch.isfinite(scoring(tokens)).all()


@pytest.mark.parametrize(
    "parameter",
    [
        "bbox_embed.0.layers.2.bias",
        "class_embed.1.weight",
        "transformer.enc_mask_predictor.layer2.4.bias",
        "transformer.encoder.layers.0.self_attn.value_proj.weight",
        "transformer.decoder.layers.0.cross_attn.attention_weights.weight",
        "transformer.level_embed",
        "backbone.0.body.layer4.1.conv2.weight",
    ],
)
def test_a_parameter_that_was_not_carried_over_is_found(
    parameter: str, tiny_model: SparseDETR, half_file: ExportResult
) -> None:
    """The wider tolerances still tell another network from this one."""
    other = copy.deepcopy(tiny_model)
    values = other.state_dict()[parameter]
    values += 0.2 * torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    with pytest.raises(VerificationError, match="differ"):
        verify(other, SPEC, onnx.load(half_file.path), half_file.metadata)


def test_float32_is_held_to_its_own_tolerances(tiny_model: SparseDETR, half_file: ExportResult) -> None:
    """What is let pass in half precision is refused in float32, and half the detections may not be near the limit."""
    assert (FLOAT32.score, FLOAT32.box, FLOAT32.raw) == (1e-3, 0.1, 2e-3)
    metadata, feed, found = probed_run(half_file.path, SPEC, [synthetic_image(0, *SIZE)])
    float32 = dataclasses.replace(metadata, precision="float32")

    def shifted(detections: int) -> Feed:
        boxes = found["boxes"].copy()
        boxes[0, :detections, 2:] += 0.5 * FLOAT16.box / 128
        return {**found, "boxes": boxes}

    compare(tiny_model, metadata, feed, 0.3, shifted(1), VerificationReport(), "here")
    with pytest.raises(VerificationError, match="box by"):
        compare(tiny_model, float32, feed, 0.3, shifted(1), VerificationReport(), "here")
    with pytest.raises(VerificationError, match="half of the detections"):
        compare(tiny_model, metadata, feed, 0.3, shifted(20), VerificationReport(), "here")


def test_onnxruntime_runs_it(half_file: ExportResult) -> None:
    """Stock, and by the runner, whose own kernels are for float32 files."""
    feed = prepare([synthetic_image(0, *SIZE)], half_file.metadata)
    session = onnxruntime.InferenceSession(str(half_file.path), providers=["CPUExecutionProvider"])
    found = session.run(None, feed)
    assert [array.dtype for array in found] == [np.float32, np.float32, np.int32]
    runner = OnnxRuntimeRunner(half_file.path, native=True)
    assert runner.describe()["custom_ops"] == "function bodies"
    assert_close_to_scale(runner.run(feed)["scores"], found[1], 1e-3)


PARSE = """
import collections, json, sys
import tensorrt_rtx as trt
logger = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(logger)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
parser = trt.OnnxParser(network, logger)
parsed = parser.parse(open(sys.argv[1], "rb").read())
counts = collections.Counter()
for layer in (network.get_layer(index) for index in range(network.num_layers)):
    counts[f"{layer.type} {layer.get_output(0).dtype}".replace("LayerType.", "").replace("DataType.", "")] += 1
errors = [str(parser.get_error(index)) for index in range(parser.num_errors)]
print("RESULT " + json.dumps([parsed, errors, counts]))
"""


@pytest.mark.network
def test_the_strongly_typed_parser_takes_it(half_file: ExportResult, tiny_model: SparseDETR) -> None:
    finished = run_rtx(PARSE, half_file.path)
    assert finished.returncode == 0, finished.stderr
    parsed, errors, counts = results(finished.stdout)[0]
    assert parsed, errors
    assert {kind for kind in counts if kind.startswith("CONVOLUTION")} == {"CONVOLUTION HALF"}
    assert counts["MATRIX_MULTIPLY FLOAT"] == tiny_model.config.dec_layers + 3  # the last layers of heads and scoring
    assert counts["MATRIX_MULTIPLY HALF"] > 50
    for kind in ("NORMALIZATION", "SOFTMAX"):
        assert counts.get(f"{kind} HALF", 0) == 0
        assert counts[f"{kind} FLOAT"] > 0
