"""What we ask of full TensorRT, on a FAKE module: nothing here shows that the real one takes it."""

from __future__ import annotations

import dataclasses
import signal
import threading
import types
from pathlib import Path
from typing import Any

import onnx
import pytest

from sparse_detr_deploy.engine_record import PluginRecord, read_sidecar
from sparse_detr_deploy.errors import ArtefactError, BackendError, VerificationError
from sparse_detr_deploy.export.engine import builder, flavours, pipeline
from sparse_detr_deploy.export.engine.gpu import Driver, Gpu
from sparse_detr_deploy.export.engine.inspection import check_types, count_types, inspect_engine
from sparse_detr_deploy.export.engine.network import NetworkSummary, check_plugins
from sparse_detr_deploy.export.engine.pipeline import EnginePipeline, EngineResult
from sparse_detr_deploy.export.engine.preparation import check_attention
from sparse_detr_deploy.export.engine.session import Messages, make_logger
from sparse_detr_deploy.export.engine.spec import EngineSpec
from sparse_detr_deploy.export.pipeline import ExportResult
from sparse_detr_deploy.hashing import sha256_of
from tests.conftest import Export
from tests.export.engine.edited_files import resealed
from tests.fakes.engine_files import plan_of
from tests.fakes.tensorrt import FakeTensorRT
from tests.fakes.tensorrt_types import DataType

GPU = Driver("13.0", (Gpu("Fake", "sm89"),))


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "libsparse_detr_plugins.so"
    path.write_bytes(b"PLUGINS")
    monkeypatch.setenv("SPARSE_DETR_PLUGINS", str(path))
    return path


@pytest.fixture
def no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARSE_DETR_PLUGINS", raising=False)
    monkeypatch.setattr(pipeline, "find_plugin_library", lambda: None)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def opened(monkeypatch: pytest.MonkeyPatch, fake: FakeTensorRT, **fields: Any) -> EnginePipeline:
    monkeypatch.setattr(pipeline, "load_flavour", lambda name: fake)
    monkeypatch.setattr(flavours, "query_driver", lambda: GPU)
    return EnginePipeline(EngineSpec("tensorrt", **fields))


def build(
    monkeypatch: pytest.MonkeyPatch, fake: FakeTensorRT, result: ExportResult, output: Path, **fields: Any
) -> EngineResult:
    return opened(monkeypatch, fake, **fields).build(result.path, output)


@pytest.mark.parametrize("name", ["../../x", "ABSOLUTE", "a/b", "..", ""])
def test_a_name_that_leads_out_of_the_folder(
    name: str, library: Path, export_tiny: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written anywhere."""
    name = str(tmp_path / "elsewhere") if name == "ABSOLUTE" else name
    path = resealed(onnx.load(export_tiny().path), tmp_path / "x.onnx", name)
    engines = opened(monkeypatch, FakeTensorRT())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ArtefactError, match=r"x\.onnx: its metadata is damaged \(name"):
        engines.build(path, tmp_path / "a" / "b")
    assert sorted(tmp_path.rglob("*")) == before


def test_files_that_are_not_as_they_were_exported(
    library: Path, export_tiny: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine would hide it for good: its own digest is right. Files of older versions have none to compare."""
    engines = opened(monkeypatch, FakeTensorRT())
    path, output = tmp_path / "x.onnx", tmp_path / "out"
    proto = onnx.load(export_tiny().path)
    proto.graph.initializer[0].raw_data = bytes(len(proto.graph.initializer[0].raw_data))
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ArtefactError, match=r"x\.onnx is not as it was exported"):
        engines.build(path, output)
    external = proto.graph.initializer[0]
    external.ClearField("raw_data")
    external.data_location = onnx.TensorProto.EXTERNAL
    external.external_data.add(key="location", value="../../secret")
    with pytest.raises(ArtefactError, match=r"x\.onnx keeps weights in other files"):
        engines.build(resealed(proto, path, "x"), output)
    del proto.graph.initializer[0]
    proto.graph.node[0].input.extend(["x"] * 9)
    with pytest.raises(ArtefactError, match=r"x\.onnx is not valid ONNX"):
        engines.build(resealed(proto, path, "x"), output)
    assert files(output) == []
    old = resealed(onnx.load(export_tiny().path), path, "old", digest="")
    assert engines.build(old, output).path == output / "old.engine"


def test_a_model_of_which_sizes_are_missing(export_tiny: Export) -> None:
    metadata = dataclasses.replace(export_tiny().metadata, model={"two_stage": True})
    with pytest.raises(ArtefactError, match="do not say hidden_dim, nheads, enc_n_points, dec_n_points"):
        check_attention(metadata)


def test_a_library_of_an_unusual_name(export_tiny: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sidecar that is written can be read."""
    (tmp_path / ".hidden.so").write_bytes(b"PLUGINS")
    monkeypatch.setenv("SPARSE_DETR_PLUGINS", str(tmp_path / ".hidden.so"))
    built = build(monkeypatch, FakeTensorRT(), export_tiny(), tmp_path / "out")
    plugin = read_sidecar(built.path)[1].plugin
    assert plugin is not None
    assert plugin.library == "libsparse_detr_plugins.so"


@pytest.mark.parametrize(
    ("version", "keeps"), [("10.8.0.43", False), ("10.14.1", False), ("10.15.1", True), ("11.4.0.106", True)]
)
def test_the_plugin_path(
    version: str, keeps: bool, library: Path, export_tiny: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strongly typed, no TF32, calls of plugins; bodies only from 10.15 on."""
    fake = FakeTensorRT(version=version)
    built = build(monkeypatch, fake, export_tiny(), tmp_path / "out", workspace_mib=512)
    assert fake.loads == [("of the process", str(library))]
    assert fake.calls["create_network"] == [1 if version.startswith("11") else 2]
    assert fake.calls["clear_flag"] == ["TF32"]
    assert fake.calls["set_memory_pool_limit"] == [("WORKSPACE", 512 << 20)]
    assert fake.profiles == []
    assert "plugins_to_serialize" not in fake.calls
    (proto,) = fake.protos
    assert len(proto.functions) == (2 if keeps else 0)
    assert {node.domain for node in proto.graph.node} == {"", "sparse_detr"}
    metadata, record = read_sidecar(built.path)
    assert metadata == export_tiny().metadata
    assert (record.attention, record.selection, record.targets) == ("plugin", "plugin", ("sm89",))
    assert record.plugin == PluginRecord(library.name, metadata.toolkit_version, sha256_of(library))
    assert record.version == version
    assert record.inspected == {"FLOAT": 1}
    assert record.workspace_mib == 512
    assert record.precision == "fp32"
    assert record.onnx_sha256 == export_tiny().sha256
    assert record.sha256 == sha256_of(built.path) == built.record.sha256
    assert built.record == record


def test_the_profile_of_batches(
    library: Path, export_tiny: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeTensorRT()
    build(monkeypatch, fake, export_tiny(batch=(1, 2, 4)), tmp_path)
    (profile,) = fake.profiles
    assert profile.get_shape("images") == [(batch, 3, 96, 128) for batch in (1, 2, 4)]


def test_the_profile_of_kept_tokens(
    library: Path, dynamic_tiny: ExportResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeTensorRT()
    build(monkeypatch, fake, dynamic_tiny, tmp_path)
    (profile,) = fake.profiles
    kept, tokens = dynamic_tiny.metadata.num_keep(), dynamic_tiny.metadata.token_count
    assert profile.get_shape_input("num_keep") == [[1], [kept], [tokens]]
    assert 1 < (kept or 0) < tokens


def test_one_timing_cache_for_all(
    library: Path,
    export_tiny: Export,
    dynamic_tiny: ExportResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeTensorRT()
    engines = opened(monkeypatch, fake)
    for result in (export_tiny(), dynamic_tiny):
        engines.build(result.path, tmp_path)
    assert fake.calls["create_timing_cache"] == [b"", b"timings"]
    assert len(fake.loads) == 1


def test_self_contained(library: Path, export_tiny: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTensorRT()
    built = build(monkeypatch, fake, export_tiny(), tmp_path, self_contained=True)
    assert fake.calls["plugins_to_serialize"] == [[str(library)]]
    assert fake.loads == [("of the builder", str(library))]  # the runtime has to find it in the engine
    assert fake.host_code == [True]
    assert built.record.plugin is not None
    assert built.record.plugin.serialized


def test_the_slow_body_was_taken(
    library: Path, export_tiny: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silently, as TensorRT does: the build fails, unless that was allowed; then the sidecar says it."""
    with pytest.raises(BackendError, match="0 of 4 MSDeformAttn, 0 of 1 SelectTokens"):
        build(monkeypatch, FakeTensorRT(takes_plugins=False), export_tiny(), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    built = build(monkeypatch, FakeTensorRT(takes_plugins=False), export_tiny(), tmp_path, allow_fallback=True)
    assert (built.record.attention, built.record.selection, built.record.plugin) == ("standard ops", "top-k", None)


def test_no_library(no_library: None, export_tiny: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match="plugins build"):
        opened(monkeypatch, FakeTensorRT())
    with pytest.raises(BackendError, match="plugins build"):
        opened(monkeypatch, FakeTensorRT(), allow_fallback=True, self_contained=True)
    fake = FakeTensorRT()
    built = build(monkeypatch, fake, export_tiny(), tmp_path, allow_fallback=True)
    assert built.record.attention == "standard ops"
    assert "sparse_detr" not in {node.domain for node in fake.protos[0].graph.node}


def test_a_library_that_does_not_load(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library.write_bytes(b"for another system")
    with pytest.raises(BackendError, match="does not load the plugin library"):
        opened(monkeypatch, FakeTensorRT())


def test_a_precision_that_is_not_what_the_file_says(
    library: Path, export_tiny: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the parsed network, and in the built engine."""
    with pytest.raises(VerificationError, match="float32 was asked for"):
        build(monkeypatch, FakeTensorRT(layer_type=DataType.HALF), export_tiny(), tmp_path)
    with pytest.raises(VerificationError, match="the engine has layers of less"):
        build(monkeypatch, FakeTensorRT(engine_types=("Row major linear FP16 format",)), export_tiny(), tmp_path)
    with pytest.raises(VerificationError, match="tells no types"):
        build(monkeypatch, FakeTensorRT(engine_types=()), export_tiny(), tmp_path)
    assert not list(tmp_path.glob("*.engine*"))


def test_dynamic_shapes_leave_types_untold(
    library: Path, export_tiny: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inspector then tells no type of any tensor, which is no fault of the engine."""
    fake = FakeTensorRT(engine_types=("N/A due to dynamic shapes",) * 3)
    built = build(monkeypatch, fake, export_tiny(batch=(1, 2, 4)), tmp_path)
    assert built.record.inspected == {"UNTOLD": 3}


def test_what_the_inspector_tells() -> None:
    untold = [{"Format/Datatype": "N/A due to dynamic shapes"}]
    layers = [
        {"Outputs": [{"Format/Datatype": "Half"}]},
        {"Outputs": [{"Format/Datatype": "Row major linear FP32"}]},
        {"Outputs": [{"Format/Datatype": "Int64"}]},
        {"Outputs": untold, "Weights": {"Type": "Half", "Count": 9408}},
        {"Outputs": untold},
        "only a name",
    ]
    counts = count_types({"Layers": layers})
    assert counts == {"FLOAT": 1, "HALF": 2, "OTHER": 1, "UNTOLD": 1}
    check_types("x", counts, "fp16")
    check_types("x", {"FLOAT": 1, "UNTOLD": 2}, "fp16")
    with pytest.raises(VerificationError, match="no layer of the engine is half"):
        check_types("x", {"FLOAT": 3}, "fp16")
    with pytest.raises(VerificationError, match="has layers of less"):
        check_types("x", counts, "fp32")


def test_plugins_of_tensorrt_itself_are_no_fault() -> None:
    summary = NetworkSummary({}, {}, {"MSDeformAttn": 12, "SelectTokens": 1, "node": 1})
    assert check_plugins("x", summary, {"MSDeformAttn": 12, "SelectTokens": 1}, allow_fallback=False)
    assert check_plugins("x", summary, {}, allow_fallback=False)


def test_an_engine_that_does_not_load_again() -> None:
    """As with a runtime that does not see the registry that the plugins are in: TensorRT's reason is told."""
    fake, messages = FakeTensorRT(), Messages()
    engine = plan_of(b"", {}, needs_plugins=True)
    with pytest.raises(BackendError, match="could not find plugin MSDeformAttn"):
        inspect_engine(fake, make_logger(fake, messages), engine, "x", reason=messages.reason)


def test_a_build_that_fails(
    library: Path, export_tiny: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackendError, match="no implementation for node X"):
        build(monkeypatch, FakeTensorRT(builds=False), export_tiny(), tmp_path)
    assert not list(tmp_path.glob("*.engine*"))


def test_ctrl_c_between_two_steps(
    library: Path, export_tiny: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monitor refuses to go on, and the interrupt is raised after TensorRT has returned."""
    told: list[str] = []
    events: list[threading.Event] = []

    class Recorded(threading.Event):
        def __init__(self) -> None:
            super().__init__()
            events.append(self)

    def progress(message: str) -> None:
        told.append(message)
        if "step 1" in message:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            assert events[-1].wait(60)

    engines = opened(monkeypatch, FakeTensorRT())
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(builder, "threading", types.SimpleNamespace(Event=Recorded))
    with pytest.raises(KeyboardInterrupt):
        engines.build(export_tiny().path, tmp_path, progress=progress)
    assert told[-1].endswith("step 1 of 2")
    assert signal.getsignal(signal.SIGINT) is before
    assert not list(tmp_path.glob("*.engine*"))


def test_no_gpu(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "load_flavour", lambda name: FakeTensorRT())
    monkeypatch.setattr(flavours, "query_driver", lambda: Driver(problem="no NVIDIA driver is installed"))
    with pytest.raises(BackendError, match="--engine tensorrt-rtx"):
        EnginePipeline(EngineSpec("tensorrt"))


@pytest.mark.parametrize(
    ("version", "accepted"), [("10.7.0", False), ("8.6.1", False), ("10.8.0", True), ("11.1.0", True)]
)
def test_versions(version: str, accepted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavours.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(flavours.importlib, "import_module", lambda name: FakeTensorRT(version=version))
    if accepted:
        assert flavours.load_flavour("tensorrt").__version__ == version
    else:
        with pytest.raises(BackendError, match=r"10\.8 or newer"):
            flavours.load_flavour("tensorrt")


@pytest.mark.parametrize(("version", "accepted"), [("1.6.9", False), ("1.7.0", True), ("2.0", True)])
def test_versions_of_tensorrt_rtx(version: str, accepted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavours.importlib.util, "find_spec", lambda name: object())
    fake = FakeTensorRT(flavour="tensorrt-rtx", version=version)
    monkeypatch.setattr(flavours.importlib, "import_module", {"tensorrt_rtx": fake}.__getitem__)
    if accepted:
        assert flavours.load_flavour("tensorrt-rtx") is fake
    else:
        with pytest.raises(BackendError, match=r"TensorRT-RTX 1\.6\.9 is too old: 1\.7 or newer.*\[rtx\]' --upgrade"):
            flavours.load_flavour("tensorrt-rtx")


def test_an_old_parser_that_leaves_the_plugin_aside(
    library: Path, export_tiny: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given no bodies, so that it must say so."""
    with pytest.raises(BackendError, match="the parser of TensorRT 10.8.0 refuses it: no importer for"):
        build(monkeypatch, FakeTensorRT(version="10.8.0", takes_plugins=False), export_tiny(), tmp_path)


@pytest.mark.parametrize(("name", "extra"), [("tensorrt", "tensorrt"), ("tensorrt-rtx", "rtx")])
def test_a_flavour_that_is_not_installed(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavours.importlib.util, "find_spec", lambda module: None)
    with pytest.raises(BackendError, match=rf"pip install 'sparse-detr-deploy\[{extra}\]'"):
        flavours.load_flavour(name)
