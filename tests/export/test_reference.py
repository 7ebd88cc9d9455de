"""From an official checkpoint to ONNX Runtime: what comes out is what the original implementation gives."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest

from sparse_detr_deploy.export import ExportSpec, export_onnx, load_checkpoint
from sparse_detr_deploy.export.graph import add_probe_outputs
from sparse_detr_deploy.export.pipeline import export_artefacts
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.postprocessing import finish
from sparse_detr_deploy.preprocessing import Feed
from sparse_detr_deploy.runners.onnxruntime import OnnxRuntimeRunner
from sparse_detr_deploy.runners.openvino import OpenVINORunner
from tests import reference
from tests.cpu_kernels import built_library
from tests.matching import arrays, assert_same_detections, assert_same_raw

PADDED = "r50_sparse_rho10_batch2"


def spec_of(case: str, model: SparseDETR, **changes: object) -> ExportSpec:
    sizes = reference.load_case(case)["sizes"]
    height, width = (int(value) for value in sizes.max(0))
    rho = model.config.rho if model.config.is_sparse else None
    batch = (len(sizes),) * 3
    return ExportSpec(height, width, rho=rho, batch=batch, padded=case == PADDED, **changes)  # type: ignore[arg-type]


def feed_of(case: str, metadata: Metadata) -> Feed:
    images, sizes = (tensor.numpy() for tensor in reference.images(case))
    return {"images": images, "image_sizes": sizes} if metadata.padded else {"images": images}


def assert_same_as_original(case: str, found: Feed, metadata: Metadata) -> None:
    expected = reference.load_case(case)
    sizes = [(int(height), int(width)) for height, width in expected["sizes"]]
    for index, (size, detections) in enumerate(zip(sizes, finish(found, sizes, metadata), strict=True)):
        scores, labels, boxes = (expected[f"{name}_{index}"] for name in ("scores", "labels", "boxes"))
        limits = np.array([size[1], size[0]] * 2)
        assert_same_detections((scores, labels, boxes.clip(0, limits)), arrays(detections))


@pytest.fixture(scope="module", params=reference.CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(case: str, tmp_path_factory: pytest.TempPathFactory) -> SparseDETR:
    return load_checkpoint(reference.official_checkpoint(case, tmp_path_factory.mktemp("official")))


@pytest.fixture(scope="module")
def raw_file(case: str, model: SparseDETR, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / f"{case}.onnx"
    path.write_bytes(add_probe_outputs(export_onnx(model, spec_of(case, model, outputs="raw"))).SerializeToString())
    return path


@pytest.mark.parametrize("native", [False, True], ids=["bodies", "native"])
def test_onnxruntime(case: str, native: bool, raw_file: Path) -> None:
    if native:
        built_library()
    runner = OnnxRuntimeRunner(raw_file, native=native)
    assert runner.describe()["custom_ops"] == ("native" if native else "function bodies")
    found = runner.run(feed_of(case, runner.metadata))
    expected = reference.load_case(case)
    for index in range(len(expected["sizes"])):
        pairs = [
            np.concatenate([outputs["pred_logits"][index], outputs["pred_boxes"][index]], axis=1)
            for outputs in (expected, found)
        ]
        assert_same_raw(*pairs)
        if case in reference.SPARSE_CASES:
            np.testing.assert_array_equal(np.unique(found["probe_indices"][index]), expected[f"kept_tokens_{index}"])
    assert_same_as_original(case, found, runner.metadata)


@pytest.mark.parametrize("case", [PADDED], scope="module")
def test_published_file(case: str, model: SparseDETR, tmp_path: Path) -> None:
    result = export_artefacts(model, [spec_of(case, model)], tmp_path)[0]
    runner = OnnxRuntimeRunner(result.path)
    assert_same_as_original(case, runner.run(feed_of(case, runner.metadata)), runner.metadata)


@pytest.mark.parametrize("case", [PADDED], scope="module")
def test_inlined_file_in_openvino(case: str, model: SparseDETR, tmp_path: Path) -> None:
    path = tmp_path / "inlined.onnx"
    proto = export_onnx(model, spec_of(case, model, inline_functions=True))
    assert {node.domain for node in itertools.chain(proto.graph.node)} <= {"", "ai.onnx"}
    onnx.save(proto, path)
    runner = OpenVINORunner(path, precision="f32")
    assert_same_as_original(case, runner.run(feed_of(case, runner.metadata)), runner.metadata)
