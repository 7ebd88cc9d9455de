"""Engines that must not be run: each refused with its reason and its mend, and nothing stays behind on the GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparse_detr_deploy import ArtefactError, BackendError, Detector, InputError, __version__, plugin_library
from sparse_detr_deploy.engine_record import PluginRecord, read_sidecar, sidecar_path
from sparse_detr_deploy.hashing import sha256_of
from sparse_detr_deploy.runners.tensorrt import TensorRTRunner
from tests.conftest import Export
from tests.fakes.cuda_enums import CUresult
from tests.fakes.engine_files import fake_engine
from tests.fakes.machine import Machine, fake_machine
from tests.fakes.tensorrt_runtime import ENGINE_BYTES, FakeEngine
from tests.fakes.tensorrt_types import Creator

LOCATE = "sparse_detr_deploy.runners.engine_plugins.locate_plugin_library"
Make = Callable[..., Path]
PLUGIN = {"library": "x.so", "version": "1", "sha256": "0" * 64, "serialized": False}


@pytest.fixture(scope="module")
def exported(export_tiny: Export) -> Path:
    """Exported while there are no fakes: torch looks for a module ``tensorrt`` too."""
    return export_tiny().path


@pytest.fixture
def machine(exported: Path) -> Iterator[Machine]:
    with fake_machine() as machine:
        yield machine


@pytest.fixture
def make(exported: Path, tmp_path: Path) -> Make:
    return lambda **record: fake_engine(exported, tmp_path / "x.engine", **record)


def refused(path: Path, kind: type[Exception], message: str, machine: Machine, **options: Any) -> None:
    with pytest.raises(kind, match=message) as caught:
        Detector.load(path, **options)
    del caught
    machine.nothing_is_left()


def test_no_sidecar(make: Make, machine: Machine) -> None:
    path = make()
    sidecar_path(path).unlink()
    refused(path, ArtefactError, r"x\.engine\.json is missing.*copy both, or build the engine again", machine)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda document: None, "not JSON"),
        (lambda document: {**document, "engine": None}, "does not describe an engine"),
        (lambda document: {**document, "engine": {**document["engine"], "flavour": "tflite"}}, "flavour is not one of"),
        (lambda document: {**document, "batch": "many"}, "damaged"),
        (lambda document: {**document, "schema_version": 99}, "upgrade sparse-detr-deploy"),
        (lambda document: {**document, "engine": {**document["engine"], "sha256": "0" * 64}}, "SHA-256 differ"),
        (
            lambda document: {**document, "padded": True, "dynamic_rho": True},
            "takes images .* of image_sizes, images, num_keep",
        ),
        (lambda document: {**document, "outputs": "raw"}, "gives boxes, labels, scores, but its sidecar"),
    ],
)
def test_a_sidecar_that_was_edited(edit: Callable[[Any], Any], message: str, make: Make, machine: Machine) -> None:
    path = make()
    document = edit(json.loads(sidecar_path(path).read_text()))
    sidecar_path(path).write_text("{" if document is None else json.dumps(document))
    refused(path, ArtefactError, message, machine)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": [89]}, "targets is not a list of short texts"),
        ({"targets": "sm89"}, "targets is not a list"),
        ({"targets": {"sm89": 1}}, "targets is not a list"),
        ({"targets": [["sm89"]]}, "targets is not a list"),
        ({"targets": None}, "targets is not a list"),
        ({"layer_types": [1]}, "layer_types is not an object of whole numbers"),
        ({"layer_types": {"HALF": "many"}}, "layer_types is not an object"),
        ({"products": {"conv": 1}}, "products is not an object of objects"),
        ({"inspected": []}, "inspected is not an object"),
        ({"inspected": {"FLOAT": True}}, "inspected is not an object"),
        ({"workspace_mib": 0}, "workspace_mib is not a whole number"),
        ({"workspace_mib": 1e3}, "workspace_mib is not a whole number"),
        ({"version": 10}, "version is not a short text"),
        ({"version": "10\n16"}, "version is not a short text"),
        ({"attention": None}, "attention is not a short text"),
        ({"selection": {}}, "selection is not a short text"),
        ({"sha256": "x"}, "sha256 is not a SHA-256"),
        ({"onnx_sha256": 7}, "onnx_sha256 is not a SHA-256"),
        ({"flavour": ["tensorrt"]}, "flavour is not one of"),
        ({"plugin": "x.so"}, "plugin is not an object or null"),
        ({"plugin": {}}, r"plugin\.library is missing"),
        ({"plugin": PLUGIN | {"library": "../../x.so"}}, r"plugin\.library is not the plain name of a file"),
        ({"plugin": PLUGIN | {"version": 1}}, r"plugin\.version is not a short text"),
        ({"plugin": PLUGIN | {"sha256": None}}, r"plugin\.sha256 is not a SHA-256"),
        ({"plugin": PLUGIN | {"serialized": "true"}}, r"plugin\.serialized is not true or false"),
    ],
)
def test_a_field_of_another_type(change: dict[str, Any], message: str, make: Make, machine: Machine) -> None:
    path = make()
    document = json.loads(sidecar_path(path).read_text())
    document["engine"].update(change)
    sidecar_path(path).write_text(json.dumps(document))
    refused(path, ArtefactError, rf"x\.engine\.json does not describe an engine \({message}", machine)


@pytest.mark.parametrize("field", ["sha256", "targets", "flavour", "layer_types", "version"])
def test_a_field_that_is_missing(field: str, make: Make, machine: Machine) -> None:
    path = make()
    document = json.loads(sidecar_path(path).read_text())
    del document["engine"][field]
    sidecar_path(path).write_text(json.dumps(document))
    refused(path, ArtefactError, f"{field} is missing", machine)


def test_a_sidecar_nested_without_end(make: Make, machine: Machine) -> None:
    path = make()
    document = json.loads(sidecar_path(path).read_text())
    document["engine"]["layer_types"] = "HERE"
    sidecar_path(path).write_text(json.dumps(document).replace('"HERE"', "[" * 900 + "]" * 900))
    refused(path, ArtefactError, "nested more than 64 deep", machine)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
@pytest.mark.parametrize("suffix", ["", ".json"])
def test_fifos(suffix: str, make: Make, machine: Machine) -> None:
    """In a process of its own, which a FIFO would stop for ever."""
    path = make()
    place = Path(f"{path}{suffix}")
    place.unlink()
    os.mkfifo(place)
    code = f"""
from pathlib import Path
from sparse_detr_deploy.errors import ArtefactError
from sparse_detr_deploy.runners.engine_checks import read_engine
try:
    read_engine(Path({str(path)!r}))
except ArtefactError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert f"{place} cannot be read (it is a FIFO, not a regular file)" in done.stdout


def test_truncated_and_replaced_engines(make: Make, machine: Machine) -> None:
    path = make()
    path.write_bytes(path.read_bytes()[:-1])
    refused(path, ArtefactError, "not the engine that its sidecar .* describes.*damaged", machine)
    path.write_bytes(b"")
    refused(path, ArtefactError, "SHA-256 differ", machine)


def test_a_file_that_is_no_engine(make: Make, machine: Machine) -> None:
    path = make()
    path.write_bytes(b"not an engine")
    make_sidecar = json.loads(sidecar_path(path).read_text())
    make_sidecar["engine"]["sha256"] = sha256_of(path)
    sidecar_path(path).write_text(json.dumps(make_sidecar))
    refused(path, ArtefactError, r"cannot deserialise it \(.*magic tag does not match\): build it again", machine)


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "x.engine").mkdir()
    with pytest.raises(ArtefactError, match="is a folder"):
        Detector.load(tmp_path / "x.engine")


@pytest.mark.parametrize(
    ("flavour", "module", "extra"), [("tensorrt", "tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt_rtx", "rtx")]
)
def test_a_flavour_that_is_not_installed(
    flavour: str, module: str, extra: str, make: Make, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    refused(make(flavour=flavour), BackendError, rf"10\.16\.1\.11, which cannot be imported.*\[{extra}\]'", machine)


@pytest.mark.parametrize(("version", "runs"), [("10.16.1.99", True), ("10.16.2.11", False), ("11.4.0.106", False)])
def test_versions(version: str, runs: bool, make: Make, machine: Machine) -> None:
    path = make(version=version)
    if runs:
        Detector.load(path).close()
    else:
        refused(path, ArtefactError, rf"built with TensorRT {version}, but 10\.16\.1\.11 is installed.*only", machine)


def test_another_gpu(make: Make, machine: Machine) -> None:
    machine.gpu.capability = (12, 0)
    refused(make(), ArtefactError, r"built for sm89, but Fake GPU \(GPU 0\) is sm120: .* on such a machine$", machine)
    Detector.load(make(targets=("sm89", "sm120"))).close()
    refused(make(targets=()), ArtefactError, "built for no GPU at all", machine)


def test_a_gpu_that_is_not_there(make: Make, machine: Machine) -> None:
    refused(make(), BackendError, "there is no GPU 1", machine, device=1)


def plugins(path: Path, version: str = __version__, serialized: bool = False) -> PluginRecord:
    path.write_bytes(b"PLUGINS")
    return PluginRecord(path.name, version, sha256_of(path), serialized)


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plugin_library, "locate_plugin_library", lambda: None)
    monkeypatch.setattr(LOCATE, lambda: None)


def test_the_plugin_library_is_loaded_once(make: Make, machine: Machine, tmp_path: Path, caplog: Any) -> None:
    library = tmp_path / "plugins.so"
    path = make(plugin=plugins(library))
    with Detector.load(path, plugin_library=library) as detector:
        assert detector.describe()["plugins"] == str(library)
    with Detector.load(path, plugin_library=str(library)) as detector:
        assert detector.describe()["plugins"] == "registered before"
    assert machine.trt.loads == [("of the process", str(library))]
    assert caplog.records == []


def test_no_plugin_library(make: Make, machine: Machine, tmp_path: Path, no_library: None) -> None:
    path = make(plugin=plugins(tmp_path / "plugins.so"))
    refused(path, BackendError, r"needs the plugin library plugins\.so.*plugins build.*SPARSE_DETR_PLUGINS", machine)
    refused(path, BackendError, r"nowhere\.so does not exist", machine, plugin_library=tmp_path / "nowhere.so")


def test_a_plugin_library_that_does_not_load(make: Make, machine: Machine, tmp_path: Path) -> None:
    path = make(plugin=plugins(tmp_path / "plugins.so"))
    (tmp_path / "plugins.so").write_bytes(b"for another system")
    refused(
        path,
        BackendError,
        "cannot load the plugin library.*build it here",
        machine,
        plugin_library=tmp_path / "plugins.so",
    )


def test_plugin_libraries_of_other_builds_and_versions(
    make: Make, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    found = tmp_path / "found.so"
    found.write_bytes(b"PLUGINS of another build")
    monkeypatch.delenv(plugin_library.ENVIRONMENT, raising=False)
    monkeypatch.setattr(LOCATE, lambda: (found, plugin_library.CACHED))
    old = make(plugin=plugins(tmp_path / "plugins.so", version="0.0.1"))
    refused(old, BackendError, rf"needs version 0\.0\.1 .* is of {__version__}.*plugin_library=", machine)
    with Detector.load(make(plugin=plugins(tmp_path / "plugins.so"))) as detector:
        assert detector.describe()["plugins"] == str(found)
    assert "is not the very library that the engine was built with" in caplog.text


def test_a_library_that_is_named_is_taken_whatever_its_version(
    make: Make, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """As is one that is found and is the very library; a relative path is of this folder."""
    record = plugins(tmp_path / "plugins.so", version="0.0.1")
    other = tmp_path / "other.so"
    other.write_bytes(b"PLUGINS of another build")
    for found, place in ((other, plugin_library.NAMED), (tmp_path / "plugins.so", plugin_library.CACHED)):
        monkeypatch.setattr(LOCATE, lambda found=found, place=place: (found, place))
        machine.trt.registry._creators.clear()
        with Detector.load(make(plugin=record)) as detector:
            assert detector.describe()["plugins"] == str(found)
        assert ("is not the very library" in caplog.text) == (found == other)
        caplog.clear()
    machine.trt.registry._creators.clear()
    monkeypatch.chdir(tmp_path)
    with Detector.load(make(plugin=record), plugin_library="plugins.so") as detector:
        assert detector.describe()["plugins"] == str(tmp_path / "plugins.so")


def test_a_library_of_others(make: Make, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It loads, and what the engine needs is still not there."""
    path = make(plugin=plugins(tmp_path / "plugins.so"))
    monkeypatch.setattr(Creator, "plugin_namespace", "someone")
    refused(path, BackendError, "cannot load the plugin library", machine, plugin_library=tmp_path / "plugins.so")


def test_plugins_in_the_engine(make: Make, machine: Machine, tmp_path: Path, no_library: None) -> None:
    record = plugins(tmp_path / "plugins.so", serialized=True)
    with Detector.load(make(plugin=record), allow_host_code=True) as detector:
        assert detector.describe()["plugins"] == "in the engine"
    Detector.load(make(), allow_host_code=True).close()
    Detector.load(make()).close()
    assert machine.trt.host_code == [True, False, False]


def test_code_in_the_engine_runs_only_where_the_caller_says_so(
    make: Make, machine: Machine, tmp_path: Path, no_library: None
) -> None:
    """The sidecar, which came with the engine, does not decide it."""
    path = make(plugin=plugins(tmp_path / "plugins.so", serialized=True))
    for options in ({}, {"allow_host_code": False}):
        refused(path, BackendError, r"allow_host_code=True.*--allow-host-code.*--self-contained", machine, **options)
    assert machine.trt.host_code == []
    with Detector.load(path, allow_host_code=True) as detector, detector.clone() as clone:
        assert clone.describe()["plugins"] == "in the engine"
    assert machine.trt.host_code == [True]  # a clone deserialises nothing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"allow_host_code": "no"}, "allow_host_code is 'no', but True or False"),
        ({"allow_host_code": 1}, "allow_host_code is 1"),
        ({"plugin_library": 7}, "plugin_library is 7"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], message: str, make: Make, machine: Machine) -> None:
    refused(make(), InputError, message, machine, **options)


def test_a_plugin_library_that_cannot_be_one(make: Make, machine: Machine, tmp_path: Path) -> None:
    path = make(plugin=plugins(tmp_path / "plugins.so"))
    for library in ("x" * 5000, "null\0.so", tmp_path):
        refused(path, BackendError, "does not exist", machine, plugin_library=library)


def test_tensorrt_rtx_takes_no_plugins(make: Make, tmp_path: Path) -> None:
    with fake_machine("tensorrt-rtx", "1.7.1.116") as machine:
        path = make(flavour="tensorrt-rtx", version="1.7.1.116", plugin=plugins(tmp_path / "plugins.so"))
        refused(path, ArtefactError, "TensorRT-RTX takes none: build it again without plugins", machine)


def test_types_that_cannot_be_fed(make: Make, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeEngine, "get_tensor_dtype", lambda self, name: machine.trt.DataType.BF16)
    refused(make(), ArtefactError, "its tensor images is BF16", machine)


def test_an_engine_that_does_not_fit_into_memory(exported: Path, make: Make) -> None:
    with fake_machine(capacity_mib=0) as machine:
        refused(make(), BackendError, "the engine does not fit into the memory of Fake GPU.*smaller batches", machine)
    with fake_machine(capacity_mib=ENGINE_BYTES >> 20) as machine:
        refused(make(), BackendError, r"no device memory for .*, 0 MiB are free", machine)


def test_no_execution_context(make: Make, machine: Machine) -> None:
    machine.trt.contexts_left = 0
    refused(make(), BackendError, r"makes no execution context on Fake GPU \(out of memory\)", machine)


@pytest.mark.parametrize("function", ["cuMemAlloc", "cuMemAllocHost", "cuStreamCreate", "cuEventCreate"])
def test_nothing_leaks_whatever_fails(function: str, make: Make, machine: Machine) -> None:
    """The n-th call fails, for every n that loading makes; after the last one it loads."""
    path, failed = make(), 0
    while True:
        machine.driver.fail(function, *[None] * failed, CUresult.CUDA_ERROR_OUT_OF_MEMORY)
        try:
            Detector.load(path).close()
        except BackendError:
            failed += 1
        else:
            machine.driver.failures.clear()
            break
        machine.nothing_is_left()
    assert failed == {"cuMemAlloc": 5, "cuMemAllocHost": 4, "cuStreamCreate": 1, "cuEventCreate": 1}[function]


@pytest.mark.parametrize("function", ["cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuStreamSynchronize", "cuGraphLaunch"])
def test_runs_that_fail(function: str, make: Make, machine: Machine) -> None:
    with TensorRTRunner(make()) as runner:
        feed = {"images": np.ones((1, 3, 96, 128), np.float32)}
        for _ in range(2):
            expected = runner.run(feed)
        machine.driver.fail(function, CUresult.CUDA_ERROR_INVALID_VALUE)
        with pytest.raises(BackendError, match=f"{function} failed: CUDA_ERROR_INVALID_VALUE"):
            runner.run(feed)
        assert np.array_equal(runner.run(feed)["boxes"], expected["boxes"])


def test_a_gpu_that_failed_for_good_is_still_given_back(make: Make, machine: Machine) -> None:
    runner = TensorRTRunner(make())
    machine.driver.fail("cuStreamSynchronize", *[CUresult.CUDA_ERROR_INVALID_VALUE] * 9)
    with pytest.raises(BackendError):
        runner.run({"images": np.ones((1, 3, 96, 128), np.float32)})
    runner.close()
    machine.nothing_is_left()


def test_the_fake_sidecar_is_one(make: Make, exported: Path) -> None:
    metadata, record = read_sidecar(make())
    assert metadata.name == exported.stem
    assert record.targets == ("sm89",)
