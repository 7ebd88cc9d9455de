"""From the builder to the detector on one fake TensorRT: what is built is what is loaded and run.

The profile, the plugins and the sidecar are the builder's own; the arithmetic is ONNX Runtime's.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sparse_detr_deploy import BackendError, Detector, InputError
from sparse_detr_deploy.export.engine import flavours, pipeline
from sparse_detr_deploy.export.engine.gpu import Driver, Gpu
from sparse_detr_deploy.export.engine.pipeline import EnginePipeline, EngineResult
from sparse_detr_deploy.export.engine.spec import EngineSpec
from sparse_detr_deploy.export.pipeline import ExportResult
from sparse_detr_deploy.synthetic_image import synthetic_image
from tests.conftest import SIZE, Export
from tests.fakes.machine import Machine, fake_machine
from tests.matching import arrays, assert_same_detections

IMAGES = [synthetic_image(seed, *SIZE) for seed in range(4)]


@pytest.fixture(scope="module")
def exported(export_tiny: Export, dynamic_tiny: ExportResult) -> dict[str, Path]:
    """While there are no fakes: torch looks for a module ``tensorrt`` too."""
    return {"batches": export_tiny(batch=(1, 2, 4)).path, "dynamic": dynamic_tiny.path}


def build(machine: Machine, onnx: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **fields: bool) -> EngineResult:
    library = folder / "plugins.so"
    library.write_bytes(b"PLUGINS")
    monkeypatch.setenv("SPARSE_DETR_PLUGINS", str(library))
    monkeypatch.setattr(pipeline, "load_flavour", lambda name: machine.trt)
    monkeypatch.setattr(flavours, "query_driver", lambda: Driver("13.0", (Gpu("Fake GPU", "sm89"),)))
    return EnginePipeline(EngineSpec("tensorrt", **fields)).build(onnx, folder)


def test_every_batch_of_the_profile(exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_machine() as machine:
        engine = build(machine, exported["batches"], tmp_path, monkeypatch).path
        with Detector.load(exported["batches"]) as expected, Detector.load(engine) as detector:
            assert detector.describe()["plugins"] == "registered before"
            assert detector.describe()["attention"] == "plugin"
            for size in (1, 2, 3, 4):
                for one, other in zip(expected(IMAGES[:size]), detector(IMAGES[:size]), strict=True):
                    assert_same_detections(arrays(one), arrays(other), 1e-5, 1e-3)
            feed = detector.preprocess(IMAGES)
            with pytest.raises(InputError, match="takes 1–4 × 3"):
                detector.runner.run({"images": feed["images"][[0, 1, 2, 3, 0]]})


def test_tensorrt_rtx(exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of standard ops, for GPUs that need not be here; nothing of it is inspected."""
    with fake_machine("tensorrt-rtx", "1.7.1.116") as machine:
        monkeypatch.setattr(pipeline, "load_flavour", lambda name: machine.trt)
        monkeypatch.setattr(flavours, "query_driver", lambda: Driver(problem="no NVIDIA driver is installed"))
        engines = EnginePipeline(EngineSpec("tensorrt-rtx", ("sm120", "sm89")))
        built = engines.build(exported["batches"], tmp_path)
        assert machine.trt.host_code == []
        record = built.record
        assert (record.attention, record.selection, record.plugin) == ("standard ops", "top-k", None)
        assert (record.targets, record.inspected) == (("sm120", "sm89"), None)
        assert "sparse_detr" not in {node.domain for node in machine.trt.protos[0].graph.node}
        with Detector.load(exported["batches"]) as expected, Detector.load(built.path) as detector:
            for one, other in zip(expected(IMAGES), detector(IMAGES), strict=True):
                assert_same_detections(arrays(one), arrays(other), 1e-5, 1e-3)


def test_every_keep_ratio(exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_machine() as machine:
        engine = build(machine, exported["dynamic"], tmp_path, monkeypatch).path
        with Detector.load(exported["dynamic"]) as expected, Detector.load(engine) as detector:
            for ratio in (0.001, 0.3, 1.0):
                one, other = (run(IMAGES[0], keep_ratio=ratio) for run in (expected, detector))
                assert_same_detections(arrays(one), arrays(other), 1e-5, 1e-3)


def test_a_self_contained_engine(exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its plugins are in no registry of the process; they run where the caller says so."""
    with fake_machine() as machine:
        engine = build(machine, exported["batches"], tmp_path, monkeypatch, self_contained=True).path
        assert machine.trt.registry.all_creators == []
        with pytest.raises(BackendError, match="allow_host_code=True"):
            Detector.load(engine)
        with Detector.load(engine, allow_host_code=True) as detector:
            assert len(detector(IMAGES[0])) == 20
            assert detector.describe()["plugins"] == "in the engine"
