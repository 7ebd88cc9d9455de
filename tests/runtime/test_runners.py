"""Opening artefacts with a backend, and what a backend refuses."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from sparse_detr_deploy import ArtefactError, BackendError, Detector, InputError, native_ops
from sparse_detr_deploy.runners import open_runner
from sparse_detr_deploy.runners.onnxruntime import OnnxRuntimeRunner
from sparse_detr_deploy.runners.openvino import OpenVINORunner
from sparse_detr_deploy.runners.options import check_num_threads, provider_names
from tests.conftest import Export
from tests.runtime.test_onnx_metadata import small_onnx
from tests.runtime.test_signature import METADATA, crafted


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    onnx.save(small_onnx(), tmp_path / "x.onnx")
    with pytest.raises(ArtefactError, match="was not made by sparse-detr-deploy"):
        Detector.load(tmp_path / "x.onnx")


@pytest.mark.parametrize("name", ["x.pth", "x", "x.txt"])
def test_other_suffixes(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"content")
    with pytest.raises(ArtefactError, match="ends in .onnx"):
        open_runner(tmp_path / name)


def test_engines_go_to_tensorrt(tmp_path: Path) -> None:
    (tmp_path / "x.engine").write_bytes(b"content")
    with pytest.raises(ArtefactError, match=r"x\.engine\.json is missing"):
        open_runner(tmp_path / "x.engine")


def test_folders_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="is a folder"):
        open_runner(tmp_path)
    with pytest.raises(ArtefactError, match="does not exist"):
        open_runner(tmp_path / "x.onnx")
    with pytest.raises(ArtefactError, match="is not an artefact"):
        open_runner(tmp_path / ("x" * 300))
    with pytest.raises(ArtefactError, match="File name too long"):
        open_runner(tmp_path / ("x" * 300 + ".onnx"))


def test_unknown_names(export_tiny: Export) -> None:
    path = export_tiny().path
    with pytest.raises(InputError, match="'tflite' is not one of onnxruntime, openvino"):
        open_runner(path, "tflite")
    with pytest.raises(BackendError, match="has no SomethingExecutionProvider"):
        open_runner(path, providers="SomethingExecutionProvider")


@pytest.mark.parametrize(
    ("backend", "options", "message"),
    [
        *((backend, {"num_threads": 0}, "num_threads is 0, but 1 to") for backend in ("onnxruntime", "openvino")),
        *((backend, {"num_threads": -1}, "num_threads is -1") for backend in ("onnxruntime", "openvino")),
        *((backend, {"num_threads": 1.5}, "num_threads is 1.5") for backend in ("onnxruntime", "openvino")),
        *((backend, {"num_threads": "4"}, "num_threads is '4'") for backend in ("onnxruntime", "openvino")),
        *((backend, {"num_threads": 10**10}, "num_threads") for backend in ("onnxruntime", "openvino")),
        ("onnxruntime", {"providers": []}, r"providers is \[\], but a name or a list of names"),
        ("onnxruntime", {"providers": [("cuda", {"device_id": 0})]}, "providers is .*without options of theirs"),
        ("onnxruntime", {"providers": None}, "providers is None"),
        ("onnxruntime", {"providers": {"cpu": {}}}, "providers is {'cpu'"),
        ("onnxruntime", {"precision": "f32"}, "no option precision: it takes providers, num_threads, native"),
        ("openvino", {"providers": "cuda"}, "openvino has no option providers: it takes num_threads, precision"),
        ("openvino", {"providers": "cuda", "native": 1}, "no option providers, native"),
        ("openvino", {"precision": "int3"}, "'int3' is not one of"),
        ("openvino", {"precision": ["f32"]}, "is not one of"),
        ("openvino", {"precision": np.array(["f32"])}, "is not one of"),
        *((backend, {"num_threads": True}, "num_threads is True") for backend in ("onnxruntime", "openvino")),
        (None, {"self": 1}, "onnxruntime has no option self"),
    ],
)
def test_options_that_are_refused_before_the_file_is_opened(
    backend: str | None, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        Detector.load(tmp_path / "nowhere.onnx", backend, **options)


def test_backends_that_do_not_run_the_file(tmp_path: Path) -> None:
    for backend in ("onnxruntime", "openvino"):
        with pytest.raises(
            InputError, match=f"x.engine is a TensorRT engine, which {backend} does not run: give the .onnx"
        ):
            open_runner(tmp_path / "x.engine", backend)
    with pytest.raises(InputError, match=r"x\.onnx is no engine: build one with sparse-detr-export --engine"):
        open_runner(tmp_path / "x.onnx", "tensorrt")


def test_counts_of_threads_and_names_of_providers() -> None:
    for count in (1, 1024, np.int16(7)):
        assert check_num_threads(count) == count
    assert type(check_num_threads(np.int16(7))) is int  # type: ignore[arg-type]
    assert check_num_threads(None) is None
    for odd in (0, 1025):
        with pytest.raises(InputError, match=f"num_threads is {odd}, but 1 to 1024 are possible"):
            check_num_threads(odd)
    assert provider_names("cuda") == ["CUDAExecutionProvider"]
    assert provider_names(("cuda", "cpu")) == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert provider_names(["CPUExecutionProvider", "x"]) == ["CPUExecutionProvider", "x"]
    for odd_names in (b"cpu", [1], ["cpu", None], ()):
        with pytest.raises(InputError, match="providers is .*, but a name or a list of names"):
            provider_names(odd_names)  # type: ignore[arg-type]


def test_paths_and_backends_that_are_none(tmp_path: Path) -> None:
    for path in (None, 3, b"x.onnx", ["x.onnx"], np.array(["x.onnx"])):
        with pytest.raises(InputError, match="the artefact is .*: give its path"):
            Detector.load(path)  # type: ignore[arg-type]
    for backend in (np.array(["openvino", "tensorrt"]), ["openvino"], 3, b"openvino"):
        with pytest.raises(InputError, match="the backend .* is not one of"):
            Detector.load(tmp_path / "x.onnx", backend)  # type: ignore[arg-type]


def test_a_count_that_python_does_not_print(tmp_path: Path) -> None:
    for backend in ("onnxruntime", "openvino"):
        with pytest.raises(InputError, match="num_threads is "):
            Detector.load(tmp_path / "nowhere.onnx", backend, num_threads=10**5000)


def test_options_of_an_engine(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tensorrt has no option providers: it takes device, cuda_graphs, "):
        Detector.load(tmp_path / "nowhere.engine", providers="cuda")


def test_cuda_where_there_is_none(export_tiny: Export) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(BackendError, match=r"CUDAExecutionProvider.*\[gpu\]"):
        open_runner(export_tiny().path, providers="cuda")


@pytest.mark.parametrize("package", ["onnxruntime", "openvino"])
def test_a_backend_that_is_not_installed(package: str, export_tiny: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    path = export_tiny(inline_functions=True).path
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BackendError, match=r"not installed: pip install 'sparse-detr-deploy"):
        open_runner(path, package)


def test_a_file_that_was_cut_after_its_metadata(export_tiny: Export, tmp_path: Path) -> None:
    """The function bodies come last; without them and the kernels the custom ops are unknown."""
    model = onnx.load(export_tiny().path)
    del model.functions[:]
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(ArtefactError, match=r"x\.onnx: ONNX Runtime .* cannot load it"):
        OnnxRuntimeRunner(tmp_path / "x.onnx", native=False)


def test_damaged_weights_are_refused_or_loaded(export_tiny: Export, tmp_path: Path) -> None:
    model = onnx.load(export_tiny().path)
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match="cannot load it"):
        OnnxRuntimeRunner(tmp_path / "x.onnx")


def test_openvino_does_not_read_custom_ops(export_tiny: Export) -> None:
    with pytest.raises(ArtefactError, match="--inline-functions"):
        open_runner(export_tiny().path, "openvino")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_wrong_inputs_and_closing(backend: str, export_tiny: Export) -> None:
    runner = open_runner(export_tiny(inline_functions=True).path, backend, num_threads=1)
    good = np.zeros((1, 3, 96, 128), dtype=np.float32)
    for feed, message in (
        ({}, "the inputs are none, but thin18_rho30_96x128_inlined takes images"),
        ({"images": good, "image_sizes": good}, "the inputs are images, image_sizes, but"),
        (None, "the inputs are a NoneType"),
        ({"images": None}, "images is a NoneType"),
        ({"images": good.tolist()}, "images is a list"),
        ({"images": np.zeros((1, 3, 5, 5), dtype=np.float32)}, r"float32 \[1, 3, 5, 5\], but .* \[batch, 3, 96, 128\]"),
        ({"images": good.astype(np.float64)}, "images is float64"),
        ({"images": good[0]}, r"images is float32 \[3, 96, 128\]"),
        ({"images": good[:0]}, "images is empty"),
        ({"images": np.array(3, dtype=np.float32)}, r"images is float32 \[\]"),
    ):
        with pytest.raises(InputError, match=message):
            runner.run(feed)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="cannot run it"):
        runner.run({"images": np.zeros((2, 3, 96, 128), dtype=np.float32)})
    described = runner.describe()
    assert described["backend"] == backend
    assert described["custom_ops"] == "inlined"
    assert described["num_threads"] == 1
    runner.close()
    runner.close()
    with pytest.raises(BackendError, match="closed"):
        runner.run({})


def test_what_runs_is_said(export_tiny: Export) -> None:
    path = export_tiny().path
    expected = "function bodies" if native_ops.library_path() is None else "native"
    assert OnnxRuntimeRunner(path).describe()["custom_ops"] == expected
    assert OnnxRuntimeRunner(path, native=False).describe()["custom_ops"] == "function bodies"


@pytest.mark.parametrize("num_threads", [1, 3])
def test_threads_are_those_of_onnxruntimes_own_session(num_threads: int, tmp_path: Path) -> None:
    runner = OnnxRuntimeRunner(crafted(tmp_path / "x.onnx", METADATA), num_threads=num_threads)
    assert runner._session.get_session_options().intra_op_num_threads == num_threads
    assert runner.describe()["num_threads"] == num_threads


def test_threads_are_those_of_openvinos_own_model(tmp_path: Path) -> None:
    """One, because it takes no more than there are cores; left to itself it takes all of them."""
    runner = OpenVINORunner(crafted(tmp_path / "x.onnx", METADATA), num_threads=1)
    assert runner._compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert runner.describe()["num_threads"] == 1


def test_threads_are_left_to_the_backend_where_none_are_asked_for(tmp_path: Path) -> None:
    path = crafted(tmp_path / "x.onnx", METADATA)
    with_onnxruntime, with_openvino = OnnxRuntimeRunner(path), OpenVINORunner(path)
    assert with_onnxruntime._session.get_session_options().intra_op_num_threads == 0
    assert with_onnxruntime.describe()["num_threads"] is with_openvino.describe()["num_threads"] is None


def test_openvino_computes_in_float32_where_nothing_else_is_asked_for(tmp_path: Path) -> None:
    """Left to itself, it takes bfloat16 on a CPU that has it."""
    runner = OpenVINORunner(crafted(tmp_path / "x.onnx", METADATA))
    assert runner._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert runner._compiled.get_property("PERFORMANCE_HINT") == "LATENCY"
    assert runner.describe()["precision"] == "f32"


def mean_of_the_images(path: Path) -> Path:
    """A crafted file whose scores are the mean of its images."""
    model = onnx.load(crafted(path, METADATA))
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == "scores":
                node.output[index] = "ones"
    model.graph.node.append(onnx.helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0))
    model.graph.node.append(onnx.helper.make_node("Mul", ["ones", "mean"], ["scores"]))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_results_stay_what_they_are_in_later_runs(backend: str, tmp_path: Path) -> None:
    """Backends use their memory again; each thread has its own."""
    runner = open_runner(mean_of_the_images(tmp_path / "x.onnx"), backend)
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    feeds = [{"images": np.full((1, 3, 96, 128), value, dtype=np.float32)} for value in values]
    with ThreadPoolExecutor(3) as pool:
        results = [runner.run(feed) for feed in feeds] + list(pool.map(runner.run, feeds))
    assert [found["scores"].mean() for found in results] == pytest.approx(values * 2)
    assert list(results[0]) == ["boxes", "scores", "labels"]


def test_the_slow_fusion_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An addition and its layer norm stay apart in what ONNX Runtime makes of a graph on the CPU."""
    import onnxruntime

    def saving(*_: object) -> onnxruntime.SessionOptions:
        options = SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        return options

    model = onnx.load(mean_of_the_images(tmp_path / "x.onnx"))
    weight = onnx.numpy_helper.from_array(np.ones(128, dtype=np.float32), "weight")
    model.graph.initializer.append(weight)
    for node in (
        onnx.helper.make_node("ReduceMean", ["images"], ["rows"], axes=[1], keepdims=0),
        onnx.helper.make_node("Neg", ["rows"], ["negative"]),
        onnx.helper.make_node("Add", ["rows", "negative"], ["sum"]),
        onnx.helper.make_node("LayerNormalization", ["sum", "weight", "weight"], ["probe"], axis=-1),
    ):
        model.graph.node.append(node)
    model.graph.output.append(onnx.helper.make_tensor_value_info("probe", onnx.TensorProto.FLOAT, [1, 96, 128]))
    onnx.save(model, tmp_path / "x.onnx")
    SessionOptions = onnxruntime.SessionOptions
    monkeypatch.setattr(onnxruntime, "SessionOptions", saving)
    OnnxRuntimeRunner(tmp_path / "x.onnx")
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert "LayerNormalization" in kinds
    assert "SkipLayerNormalization" not in kinds
    onnxruntime.InferenceSession(str(tmp_path / "x.onnx"), saving(), providers=["CPUExecutionProvider"])
    fused = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert "SkipLayerNormalization" in fused  # which it does by itself


def test_kernels_that_are_not_built(
    export_tiny: Export, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native_ops, "library_path", lambda: None)
    assert OnnxRuntimeRunner(export_tiny().path).describe()["custom_ops"] == "function bodies"
    assert "slower" in caplog.text


def test_a_named_library_that_does_not_load(
    export_tiny: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ops.so").write_bytes(b"no library")
    monkeypatch.setenv("SPARSE_DETR_ORT_OPS", str(tmp_path / "ops.so"))
    with pytest.raises(BackendError, match=r"SPARSE_DETR_ORT_OPS names .*ops\.so, which does not load.*unset"):
        OnnxRuntimeRunner(export_tiny().path)
    assert OnnxRuntimeRunner(export_tiny().path, native=False).describe()["custom_ops"] == "function bodies"


def test_a_built_library_that_does_not_load(
    export_tiny: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "ops.so").write_bytes(b"no library")
    monkeypatch.delenv("SPARSE_DETR_ORT_OPS", raising=False)
    monkeypatch.setattr(native_ops, "library_path", lambda: tmp_path / "ops.so")
    assert OnnxRuntimeRunner(export_tiny().path).describe()["custom_ops"] == "function bodies"
    assert "do not load" in caplog.text
