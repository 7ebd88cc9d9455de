"""The fakes against the real packages: every function, attribute and parameter that they have must be there too.

The real ones import without a driver. Each is looked at in a child process, which holds one of them.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sparse_detr_deploy.engine_record import EngineRecord, sidecar_json, sidecar_path
from sparse_detr_deploy.hashing import sha256_of
from sparse_detr_deploy.metadata import Metadata
from tests.fakes import cuda_driver, cuda_enums, nvml, tensorrt_runtime, tensorrt_types
from tests.plugins.packages import LEAN_VERSIONS, UnavailableError, lean_runtime, package

CUDA_BINDINGS = ("13.5.0", "12.9.10")
NVML = ("nvidia-ml-py", "13.615.71")
TENSORRT_RTX = ("tensorrt-rtx-cu13", "1.7.1.116")
# of the fakes, by the name of the real class; TensorRT-RTX alone has the last one
CLASSES: dict[str, type] = {
    "Runtime": tensorrt_runtime.FakeRuntime,
    "ICudaEngine": tensorrt_runtime.FakeEngine,
    "IExecutionContext": tensorrt_runtime.FakeContext,
    "IPluginRegistry": tensorrt_types.Registry,
    "ILogger": tensorrt_types.ILogger,
}
ENUMS: tuple[type, ...] = (
    tensorrt_types.DataType,
    tensorrt_types.TensorLocation,
    tensorrt_types.TensorIOMode,
    tensorrt_types.ExecutionContextAllocationStrategy,
)
FOR_TESTS = {"output_shape", "state", "ran_in_state"}


def ask(body: str, *folders: Path) -> Any:
    """What a child process prints as JSON, with packages of their own on its path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, "-c", body]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def folder_of(name: str, version: str) -> Path:
    try:
        return package(name, version)
    except UnavailableError as error:
        pytest.skip(str(error))


def used(fake: type) -> dict[str, list[str]]:
    """Public methods of a fake with the names of their parameters, and attributes with none."""
    found = {}
    for name, value in vars(fake).items():
        if not name.startswith("_") and name not in FOR_TESTS:
            found[name] = list(inspect.signature(value).parameters)[1:] if inspect.isfunction(value) else []
    return found


@pytest.mark.parametrize("version", CUDA_BINDINGS)
def test_cuda_driver(version: str) -> None:
    folder = folder_of("cuda-bindings", version)
    seen = ask(
        """
import inspect, json
from cuda.bindings import driver
print(json.dumps({
    name: list(inspect.signature(value).parameters) if name.startswith("cu") else
        {member.name: int(member) for member in value} if hasattr(value, "__members__") else None
    for name, value in vars(driver).items()
    if name.startswith("CU") or (name.startswith("cu") and callable(value) and not isinstance(value, type))
} | {"int": [int(driver.CUdeviceptr(7)), int(driver.CUstream(7)), int(driver.CUresult.CUDA_SUCCESS)]}))
""",
        folder,
    )
    assert seen["int"] == [7, 7, 0]
    members = inspect.getmembers(cuda_driver.FakeDriver, inspect.isfunction)
    functions = {name: value for name, value in members if name.startswith("cu")}
    assert len(functions) > 30
    for name, function in functions.items():
        assert seen[name] == list(inspect.signature(function).parameters)[1:], name
    enums = [value for name, value in vars(cuda_enums).items() if name.startswith("CU") and isinstance(value, type)]
    assert len(enums) == 7
    for enum in enums:
        for member in enum:
            assert seen[enum.__name__][member.name] == int(member)


TENSORRT_QUESTION = """
import json, {module} as trt
classes = {classes}
answer = {{"version": trt.__version__, "registry": callable(trt.get_plugin_registry)}}
answer["classes"] = {{
    name: {{key: getattr(getattr(trt, name), key).__doc__ or "" for key in keys if hasattr(getattr(trt, name), key)}}
    for name, keys in classes.items()
}}
answer["enums"] = {{name: list(getattr(trt, name).__members__) for name in {enums}}}
answer["severities"] = list(trt.ILogger.Severity.__members__)

class Logger(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)

    def log(self, severity, msg):
        pass

Logger().log(trt.ILogger.Severity.ERROR, "text")
print(json.dumps(answer))
"""


def check_tensorrt(module: str, folder: Path, version: str, classes: dict[str, type], enums: tuple[type, ...]) -> None:
    names = {name: list(used(fake)) for name, fake in classes.items()}
    seen = ask(TENSORRT_QUESTION.format(module=module, classes=names, enums=[enum.__name__ for enum in enums]), folder)
    assert seen["version"] == version
    assert seen["registry"]
    for name, fake in classes.items():
        for key, parameters in used(fake).items():
            assert key in seen["classes"][name], f"{name}.{key}"
            for parameter in parameters:
                assert f"{parameter}:" in seen["classes"][name][key], f"{name}.{key}({parameter})"
    for enum in enums:
        assert {member.name for member in enum} <= set(seen["enums"][enum.__name__])
    assert {member.name for member in tensorrt_types.ILogger.Severity} == set(seen["severities"])


@pytest.mark.parametrize("version", LEAN_VERSIONS)
def test_tensorrt(version: str) -> None:
    """By the lean runtimes: full TensorRT cannot be had here, and its runtime has the same bindings."""
    classes = dict(CLASSES)
    check_tensorrt("tensorrt_lean", lean_runtime(version), version, classes, ENUMS)


def test_tensorrt_rtx() -> None:
    classes = {**CLASSES, "IRuntimeConfig": tensorrt_types.RuntimeConfig}
    enums = (*ENUMS, tensorrt_types.CudaGraphStrategy)
    check_tensorrt("tensorrt_rtx", folder_of(*TENSORRT_RTX), TENSORRT_RTX[1], classes, enums)


def test_nvml() -> None:
    seen = ask("import json, pynvml; print(json.dumps({n: str(v) for n, v in vars(pynvml).items()}))", folder_of(*NVML))
    names = [name for name in vars(nvml.FakeNvml) if name.lower().startswith("nvml")]
    assert len(names) >= 9
    for name in names:
        assert name in seen, name
    for name in ("NVML_CLOCK_SM", "NVML_CLOCK_MEM", "NVML_TEMPERATURE_GPU"):
        assert seen[name] == str(getattr(nvml.FakeNvml, name))


def test_real_packages_without_a_gpu(tmp_path: Path) -> None:
    """The whole way up to the driver with the real TensorRT-RTX and the real bindings: the reason is told."""
    if any(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this machine has an NVIDIA GPU")
    folders = [folder_of(*TENSORRT_RTX), folder_of("cuda-bindings", CUDA_BINDINGS[0])]
    engine = tmp_path / "x.engine"
    engine.write_bytes(b"an engine")
    record = EngineRecord(
        "tensorrt-rtx", TENSORRT_RTX[1], sha256_of(engine), "", "fp32", {}, ("sm89",), "standard ops", "top-k"
    )
    metadata = Metadata("x", "r50", {}, 96, 128, ((12, 16),))
    sidecar_path(engine).write_text(sidecar_json(metadata, record))
    said = ask(
        f"""
import json
from sparse_detr_deploy import Detector, BackendError
try:
    Detector.load({str(engine)!r})
except BackendError as error:
    print(json.dumps(str(error)))
""",
        *folders,
    )
    assert "CUDA cannot be used" in said
    assert "install NVIDIA's driver" in said
