"""Exported files: valid ONNX, the same in every form, and nothing published that was not asked for."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparse_detr_deploy.errors import BackendError, InputError, OutputError, SparseDetrError, VerificationError
from sparse_detr_deploy.export import pipeline
from sparse_detr_deploy.export.pipeline import ExportResult, export_artefacts
from sparse_detr_deploy.export.random_weights import random_model
from sparse_detr_deploy.export.spec import ExportSpec
from sparse_detr_deploy.hashing import sha256_of
from sparse_detr_deploy.metadata import METADATA_KEY, Metadata
from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.preprocessing import Feed, prepare
from sparse_detr_deploy.runners.onnxruntime import OnnxRuntimeRunner
from sparse_detr_deploy.synthetic_image import synthetic_image
from tests.closeness import assert_close_to_scale
from tests.conftest import SIZE, TINY, Export

FORMS: dict[str, dict] = {
    "plain": {},
    "padded": {"padded": True},
    "raw": {"outputs": "raw"},
    "uint8": {"uint8_input": True},
    "inlined": {"inline_functions": True},
    "batches": {"batch": (2, 3, 4)},
}
IMAGE = synthetic_image(0, *SIZE)


@pytest.mark.parametrize("form", FORMS)
def test_files_are_valid_and_load_in_stock_onnxruntime(form: str, export_tiny: Export) -> None:
    result = export_tiny(**FORMS[form])
    model = onnx.load(result.path)
    onnx.checker.check_model(model, full_check=True)
    domains = {entry.domain for entry in model.opset_import}
    calls = {node.op_type for node in model.graph.node if node.domain == "sparse_detr"}
    if form == "inlined":
        assert not model.functions
        assert "sparse_detr" not in domains
        assert not {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    else:
        assert calls == {function.name for function in model.functions} == {"MSDeformAttn", "SelectTokens"}
    session = onnxruntime.InferenceSession(str(result.path), providers=["CPUExecutionProvider"])
    batch = result.metadata.batch[0]
    found = session.run(None, prepare([IMAGE] * batch, result.metadata))
    names = [output.name for output in session.get_outputs()]
    assert names == (["pred_logits", "pred_boxes"] if form == "raw" else ["boxes", "scores", "labels"])
    expected = [(batch, 20, 5), (batch, 20, 4)] if form == "raw" else [(batch, 20, 4), (batch, 20), (batch, 20)]
    assert [array.shape for array in found] == expected
    if form != "raw":
        assert [array.dtype for array in found] == [np.float32, np.float32, np.int32]


@pytest.mark.parametrize("form", FORMS)
def test_inputs(form: str, export_tiny: Export) -> None:
    session = onnxruntime.InferenceSession(str(export_tiny(**FORMS[form]).path), providers=["CPUExecutionProvider"])
    inputs = {value.name: (value.type, value.shape) for value in session.get_inputs()}
    kind = "tensor(uint8)" if form == "uint8" else "tensor(float)"
    batch = "batch" if form == "batches" else 1
    assert inputs["images"] == (kind, [batch, 3, *SIZE])
    assert set(inputs) == ({"images", "image_sizes"} if form == "padded" else {"images"})
    if form == "padded":
        assert inputs["image_sizes"] == ("tensor(int64)", [1, 2])


def test_inputs_of_a_dynamic_file(dynamic_tiny: ExportResult) -> None:
    session = onnxruntime.InferenceSession(str(dynamic_tiny.path), providers=["CPUExecutionProvider"])
    inputs = {value.name: (value.type, value.shape) for value in session.get_inputs()}
    assert inputs == {"images": ("tensor(float)", [1, 3, *SIZE]), "num_keep": ("tensor(int64)", [1])}


def test_metadata(export_tiny: Export, tiny_model: SparseDETR) -> None:
    result = export_tiny(batch=(2, 3, 4))
    metadata = result.metadata
    assert result.path.name == f"{metadata.name}.onnx" == "thin18_rho30_96x128_b2-4.onnx"
    assert result.sha256 == sha256_of(result.path)
    assert (metadata.height, metadata.width, metadata.rho, metadata.batch) == (96, 128, 0.3, (2, 3, 4))
    assert metadata.level_shapes == tiny_model.level_shapes(96, 128)
    assert (metadata.token_count, metadata.num_keep()) == (256, 77)
    assert (metadata.num_queries, metadata.num_classes, metadata.num_detections) == (20, 5, 20)
    assert metadata.custom_ops == {"MSDeformAttn": 1, "SelectTokens": 1}
    assert metadata.model == dataclasses.asdict(tiny_model.config)
    assert metadata.checkpoint == {"random_weights": 0}
    assert {"torch", "onnx", "onnxruntime", "python"} <= set(metadata.versions)
    assert metadata.verification["batches"] == [2, 3, 4]
    assert metadata.toolkit_version
    document = result.to_dict()
    assert document["bytes"] == result.path.stat().st_size
    assert document["num_keep"] == 77
    assert document["sha256"] == result.sha256


def run(path: Path, native: bool, feed: Feed) -> list[np.ndarray]:
    runner = OnnxRuntimeRunner(path, native=native)
    found = runner.run(feed)
    return [found[name] for name in ("scores", "labels", "boxes")]


@pytest.mark.parametrize("rho", [0.01, 0.1, 0.3, 0.55, 1.0])
def test_dynamic_rho_equals_fixed_rho(
    rho: float, dynamic_tiny: ExportResult, tiny_model: SparseDETR, export_tiny: Export
) -> None:
    """Against the module at every ρ, and against a file of its own at ρ 0.3."""
    feed = prepare([IMAGE], dynamic_tiny.metadata, keep_ratio=rho)
    scores, labels, boxes = run(dynamic_tiny.path, False, feed)
    with torch.no_grad():
        expected = tiny_model(torch.from_numpy(feed["images"]), keep_ratio=rho)
    best = expected.pred_logits[0].flatten().sigmoid().topk(20)
    assert_close_to_scale(scores[0], best.values, 1e-5)
    np.testing.assert_array_equal(labels[0], best.indices % 5)
    native = run(dynamic_tiny.path, True, feed)
    assert_close_to_scale(native[0], scores, 1e-5)
    assert_close_to_scale(native[2], boxes, 1e-5)
    if rho == 0.3:
        fixed = export_tiny()
        for one, other in zip(
            run(fixed.path, False, prepare([IMAGE], fixed.metadata)), (scores, labels, boxes), strict=True
        ):
            assert_close_to_scale(one, other, 1e-5)


@pytest.fixture(scope="module")
def dynamic_runners(dynamic_tiny: ExportResult) -> list[OnnxRuntimeRunner]:
    return [OnnxRuntimeRunner(dynamic_tiny.path, native=native) for native in (False, True)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rho=st.floats(0, 1, exclude_min=True))
def test_any_rho(rho: float, dynamic_runners: list[OnnxRuntimeRunner], tiny_model: SparseDETR) -> None:
    feed = prepare([IMAGE], dynamic_runners[0].metadata, keep_ratio=rho)
    with torch.no_grad():
        expected = (
            tiny_model(torch.from_numpy(feed["images"]), keep_ratio=rho).pred_logits[0].flatten().sigmoid().topk(20)
        )
    for runner in dynamic_runners:
        assert_close_to_scale(runner.run(feed)["scores"][0], expected.values, 1e-5)


def test_padded_batches_give_what_each_image_gives_alone(export_tiny: Export) -> None:
    """Per-image ρ, masks and valid ratios, with one file for every ρ."""
    result = export_tiny(dynamic_rho=True, padded=True, batch=(1, 2, 3))
    assert result.verification.batches == [1, 2, 3]
    images = [synthetic_image(1, 96, 128), synthetic_image(2, 96, 70), synthetic_image(3, 50, 128)]
    for native in (False, True):
        runner = OnnxRuntimeRunner(result.path, native=native)
        together = runner.run(prepare(images, result.metadata, keep_ratio=0.4))
        for index, image in enumerate(images):
            alone = runner.run(prepare([image], result.metadata, keep_ratio=0.4))
            for name in ("scores", "labels", "boxes"):
                assert_close_to_scale(together[name][index], alone[name][0], 1e-5)


def test_two_files_of_one_name_are_refused_before_the_work(tiny_model: SparseDETR, tmp_path: Path) -> None:
    specs = [ExportSpec(*SIZE, rho=rho, num_detections=20) for rho in (0.3, 0.3 + 1e-9)]
    with pytest.raises(InputError, match=r"thin18_rho30_96x128\.onnx"):
        export_artefacts(tiny_model, specs, tmp_path / "out", progress=fail)
    assert not (tmp_path / "out").exists()


def fail(message: str) -> None:
    raise AssertionError(f"heavy work was begun: {message}")


@pytest.mark.parametrize("wrong", [{"rho": None}, {"rho": 0.1, "size": (31, 128)}, {"rho": 0.1, "num_detections": 101}])
def test_nothing_is_begun_when_one_file_is_refused(wrong: dict, tiny_model: SparseDETR, tmp_path: Path) -> None:
    height, width = wrong.pop("size", SIZE)
    specs = [
        ExportSpec(*SIZE, rho=0.3, num_detections=20),
        ExportSpec(height, width, **{"num_detections": 20, **wrong}),
    ]
    with pytest.raises(InputError):
        export_artefacts(tiny_model, specs, tmp_path / "out", progress=fail)
    assert not (tmp_path / "out").exists()


def test_files_that_are_there_are_not_written_over(tiny_model: SparseDETR, tmp_path: Path) -> None:
    specs = [ExportSpec(*SIZE, rho=rho, num_detections=20) for rho in (0.1, 0.3)]
    (tmp_path / "thin18_rho30_96x128.onnx").write_bytes(b"old")
    with pytest.raises(OutputError, match=r"thin18_rho30_96x128\.onnx exists already.*--force"):
        export_artefacts(tiny_model, specs, tmp_path, progress=fail)
    assert (tmp_path / "thin18_rho30_96x128.onnx").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("out of memory\nand more"), AttributeError()])
@pytest.mark.parametrize("place", ["export_onnx", "verify", "set_metadata", "verify_file"])
def test_nothing_is_left_when_it_is_cut_off(
    error: BaseException,
    place: str,
    tiny_model: SparseDETR,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    export_tiny: Export,
) -> None:
    def stop(*arguments: object) -> None:
        raise error

    proto = onnx.load(export_tiny().path)
    monkeypatch.setattr(pipeline, "export_onnx", lambda model, spec: proto)
    monkeypatch.setattr(pipeline, "verify", lambda *arguments: (export_tiny().verification, None))
    monkeypatch.setattr(pipeline, place, stop)
    wrapped = place == "export_onnx" and error is not KeyboardInterrupt
    with pytest.raises(BackendError if wrapped else error if isinstance(error, type) else type(error)) as caught:
        export_artefacts(tiny_model, [ExportSpec(*SIZE, rho=0.3, num_detections=20)], tmp_path)
    if wrapped:
        assert isinstance(caught.value, SparseDetrError)
        assert "out of memory)" in str(caught.value) or "AttributeError" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def rooted(proto: onnx.ModelProto) -> None:
    """The square roots of the scores in place of the scores."""
    for node in proto.graph.node:
        for index, name in enumerate(node.output):
            if name == "scores":
                node.output[index] = "squares"
    proto.graph.node.append(onnx.helper.make_node("Sqrt", ["squares"], ["scores"]))


def renamed(proto: onnx.ModelProto) -> None:
    """An output under another name."""
    proto.graph.node.append(onnx.helper.make_node("Identity", ["scores"], ["results"]))
    next(output for output in proto.graph.output if output.name == "scores").name = "results"


def unloadable(proto: onnx.ModelProto) -> None:
    """A graph that reads what nothing writes."""
    proto.graph.node[3].input[0] = "nothing"


@pytest.mark.parametrize(
    ("tamper", "message"),
    [(rooted, "score differs"), (renamed, "scores is not in the graph"), (unloadable, "does not load")],
)
@pytest.mark.parametrize("form", ["plain", "padded", "inlined"])
def test_the_very_bytes_that_are_published_are_run(
    form: str,
    tamper: Callable[[onnx.ModelProto], None],
    message: str,
    tiny_model: SparseDETR,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    export_tiny: Export,
) -> None:
    """What befalls the graph after it was verified with its probes is found."""
    proto = onnx.load(export_tiny(padded=form == "padded").path)
    set_metadata = pipeline.set_metadata

    def tampered(proto: onnx.ModelProto, metadata: Metadata) -> None:
        set_metadata(proto, metadata)
        tamper(proto)

    monkeypatch.setattr(pipeline, "export_onnx", lambda model, spec: copy.deepcopy(proto))
    spec = ExportSpec(*SIZE, rho=0.3, num_detections=20, **FORMS[form])
    assert len(export_artefacts(tiny_model, [spec], tmp_path / "good")) == 1
    monkeypatch.setattr(pipeline, "set_metadata", tampered)
    with pytest.raises(VerificationError, match=f"thin18_rho30_96x128.*{message}"):
        export_artefacts(tiny_model, [spec], tmp_path / "bad")
    assert list((tmp_path / "bad").iterdir()) == []


def test_what_was_published_before_a_failure_is_told(
    tiny_model: SparseDETR, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, export_tiny: Export
) -> None:
    protos = [onnx.load(export_tiny().path), onnx.ModelProto()]
    monkeypatch.setattr(pipeline, "export_onnx", lambda model, spec: protos.pop(0))
    specs = [ExportSpec(*SIZE, rho=rho, num_detections=20) for rho in (0.3, 0.4)]
    told: list[ExportResult] = []
    with pytest.raises(BackendError):
        export_artefacts(tiny_model, specs, tmp_path, published=told.append)
    assert [result.path.name for result in told] == ["thin18_rho30_96x128.onnx"]
    assert [path.name for path in tmp_path.iterdir()] == ["thin18_rho30_96x128.onnx"]


def test_a_canvas_whose_file_would_be_too_large(tiny_model: SparseDETR, tmp_path: Path) -> None:
    """The weights count too: the tokens alone would fit."""
    spec = ExportSpec(16_384, 16_384, rho=0.3)  # as many pixels as an artefact may have
    shapes = tiny_model.level_shapes(spec.height, spec.width)
    spec.check_against(tiny_model.config, shapes, parameters=25_000_000)
    with pytest.raises(InputError, match="too large"):
        spec.check_against(tiny_model.config, shapes, parameters=150_000_000)
    wide = random_model("r50", 0, **{**TINY, "hidden_dim": 128})
    with pytest.raises(InputError, match="too large"):
        export_artefacts(wide, [spec], tmp_path / "out", progress=fail)


def test_a_graph_that_is_not_valid(
    tiny_model: SparseDETR, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, export_tiny: Export
) -> None:
    proto = onnx.load(export_tiny().path)
    proto.graph.node[3].input[0] = "nothing"
    monkeypatch.setattr(pipeline, "export_onnx", lambda model, spec: proto)
    with pytest.raises(BackendError, match="not valid ONNX"):
        export_artefacts(tiny_model, [ExportSpec(*SIZE, rho=0.3, num_detections=20)], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_dense_files(dense_result: ExportResult) -> None:
    result = dense_result
    assert result.path.name == "thin18_dense_96x128.onnx"
    assert result.metadata.rho is None
    assert result.metadata.num_keep() is None
    assert result.verification.keep_ratios == []
    assert {function.name for function in onnx.load(result.path).functions} == {"MSDeformAttn"}


@pytest.mark.slow
@pytest.mark.parametrize("size", [(97, 131), (128, 64), (100, 257)])
@pytest.mark.parametrize(
    "changes", [{}, {"padded": True, "batch": (1, 2, 2)}, {"inline_functions": True, "padded": True}]
)
def test_odd_sizes(size: tuple[int, int], changes: dict, export_tiny: Export) -> None:
    assert export_tiny(size=size, **changes).verification.box_pixels <= 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"uint8_input": True, "padded": True}, {"outputs": "raw", "dynamic_rho": True, "inline_functions": True}],
)
def test_options_together(changes: dict, export_tiny: Export) -> None:
    result = export_tiny(**changes)
    assert (
        Metadata.from_json(next(e.value for e in onnx.load(result.path).metadata_props if e.key == METADATA_KEY))
        == result.metadata
    )
