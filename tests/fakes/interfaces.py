"""What the fakes have against what the real packages have: names, parameters in their order, values of enumerations.

The real ones are kept in interfaces.json, as far as the fakes have them, so that no package is needed to compare.
``python -m tests.fakes.interfaces`` writes it anew; test_interfaces.py holds it against the packages.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.fakes import cuda_enums, nvml, tensorrt_builder, tensorrt_network, tensorrt_runtime, tensorrt_types
from tests.fakes.cuda_driver import FakeDriver
from tests.fakes.tensorrt import FakeTensorRT
from tests.plugins.packages import package

STORED = Path(__file__).with_suffix(".json")
TENSORRT, TENSORRT_RTX = "tensorrt-cu13-bindings", "tensorrt-rtx-cu13"
PACKAGES = (
    (TENSORRT, "10.16.1.11"),
    (TENSORRT, "11.4.0.106"),
    (TENSORRT_RTX, "1.7.1.116"),
    ("cuda-bindings", "12.9.10"),
    ("cuda-bindings", "13.5.0"),
    ("nvidia-ml-py", "13.615.71"),
)
CLASSES: dict[str, type] = {
    "Builder": tensorrt_builder.FakeBuilder,
    "IBuilderConfig": tensorrt_builder.FakeConfig,
    "ITimingCache": tensorrt_builder.FakeTimingCache,
    "INetworkDefinition": tensorrt_network.FakeNetwork,
    "ILayer": tensorrt_network.FakeLayer,
    "ITensor": tensorrt_network.FakeTensor,
    "OnnxParser": tensorrt_network.FakeParser,
    "ParserError": tensorrt_network.FakeParserError,
    "IOptimizationProfile": tensorrt_network.FakeProfile,
    "Runtime": tensorrt_runtime.FakeRuntime,
    "ICudaEngine": tensorrt_runtime.FakeEngine,
    "IExecutionContext": tensorrt_runtime.FakeContext,
    "EngineInspector": tensorrt_runtime.FakeInspector,
    "IPluginRegistry": tensorrt_types.Registry,
    "IPluginCreatorV3One": tensorrt_types.Creator,
    "ILogger": tensorrt_types.ILogger,
    "IProgressMonitor": tensorrt_types.IProgressMonitor,
    "IRuntimeConfig": tensorrt_types.RuntimeConfig,
}
MADE_BY_CALL = ("Builder", "OnnxParser", "Runtime")
RTX_ONLY = {"num_compute_capabilities", "set_compute_capability", "cuda_graph_strategy"}
# a module: {"functions": {name: [overload, …]}, "classes": {name: {member: [overload, …] or null}}, "enums": {name: {}}};
# an overload is its parameters' names in order, those that may be left out with "=" behind them
Interface = dict[str, Any]
# libraries of TensorRT that its bindings are linked to; nothing of them is called where only names are read
_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
_SYMBOLS = (
    "createInferBuilder_INTERNAL createInferRefitter_INTERNAL createInferRuntime_INTERNAL getPluginRegistry "
    "createNvOnnxParserRefitter_INTERNAL createNvOnnxParser_INTERNAL getBuilderPluginRegistry getNvOnnxParserVersion "
    "initLibNvInferPlugins"
)


def _overloads(function: Any) -> list[list[str]]:
    parameters = [p for name, p in inspect.signature(function).parameters.items() if name != "self"]
    return [[p.name + ("" if p.default is p.empty else "=") for p in parameters]]


def _members(kind: type) -> dict[str, list[list[str]] | None]:
    """Public members of a fake class."""
    public = {name: value for name, value in vars(kind).items() if not name.startswith("_") and name != "Severity"}
    return {
        name: _overloads(value) if inspect.isfunction(value) else None
        for name, value in public.items()
        if name != "base_initialised"
    }


def _values(enum: Any) -> dict[str, int]:
    return {name: int(member) for name, member in enum.__members__.items()}


def fake_tensorrt(name: str, version: str) -> Interface:
    """What the fake has as TensorRT or TensorRT-RTX of a version."""
    rtx = name == TENSORRT_RTX
    trt = FakeTensorRT(flavour="tensorrt-rtx" if rtx else "tensorrt", version=version)
    classes = {
        title: {member: how for member, how in _members(kind).items() if rtx or member not in RTX_ONLY}
        for title, kind in CLASSES.items()
    }
    for title in MADE_BY_CALL:
        classes[title]["__init__"] = _overloads(getattr(trt, title))
    enums = {title: _values(kind) for title, kind in vars(trt).items() if hasattr(kind, "__members__")}
    enums["ILogger.Severity"] = _values(trt.ILogger.Severity)
    return {"functions": {"get_plugin_registry": [[]]}, "classes": classes, "enums": enums}


def fake_cuda() -> Interface:
    """What the fake driver has."""
    members = inspect.getmembers(FakeDriver, inspect.isfunction)
    functions = {name: _overloads(value) for name, value in members if name.startswith("cu")}
    enums = {n: _values(v) for n, v in vars(cuda_enums).items() if n.startswith("CU") and hasattr(v, "__members__")}
    return {"functions": functions, "classes": {}, "enums": enums}


def fake_nvml() -> Interface:
    """What the fake of NVML has; its constants as an enumeration."""
    members = {name: value for name, value in vars(nvml.FakeNvml).items() if name.lower().startswith("nvml")}
    functions = {name: _overloads(value) for name, value in members.items() if inspect.isfunction(value)}
    constants = {name: value for name, value in members.items() if isinstance(value, int)}
    return {"functions": functions, "classes": {}, "enums": {"": constants}}


def fake_interface(name: str, version: str) -> Interface:
    """What the fake of a package has."""
    if name == "cuda-bindings":
        return fake_cuda()
    return fake_nvml() if name == "nvidia-ml-py" else fake_tensorrt(name, version)


def faults(fake: Interface, real: Interface) -> list[str]:
    """What the fake has and the real one has not, or not so."""
    found = []
    for name, overloads in fake["functions"].items():
        if not _serves(overloads, real["functions"].get(name)):
            found.append(f"{name}: {overloads}, really {real['functions'].get(name)}")
    for title, members in fake["classes"].items():
        for name, overloads in members.items():
            there = real["classes"].get(title, {})
            if name not in there or not _serves(overloads, there[name]):
                found.append(f"{title}.{name}: {overloads}, really {there.get(name, 'absent')}")
    for title, values in fake["enums"].items():
        for name, value in values.items():
            if real["enums"].get(title, {}).get(name) != value:
                found.append(f"{title}.{name}: {value}, really {real['enums'].get(title, {}).get(name)}")
    return found


def _serves(fake: list[list[str]] | None, real: list[list[str]] | None) -> bool:
    """Whether a call that the fake takes is one that some overload of the real one takes."""
    if fake is None or real is None:
        return fake == real
    (parameters,) = fake
    names = [name.removesuffix("=") for name in parameters]
    return any(
        names == [name.removesuffix("=") for name in overload[: len(names)]]
        and all(name.endswith("=") for name in overload[len(names) :])
        and all(theirs.endswith("=") for ours, theirs in zip(parameters, overload, strict=False) if ours.endswith("="))
        for overload in real
    )


_READ = """
import enum, importlib, inspect, json, sys
module, wanted = importlib.import_module(sys.argv[1]), json.loads(sys.stdin.read())

def place(title):
    found = module
    for part in filter(None, title.split(".")):
        found = getattr(found, part, None)
    return found

def told(owner, name):
    function = getattr(owner, name)
    if not callable(function):
        return None
    try:
        parameters = inspect.signature(function).parameters.values()
        return [[p.name + ("" if p.default is p.empty else "=") for p in parameters if p.name != "self"]]
    except ValueError:
        return function.__doc__ or ""

def member(title, name):
    value = getattr(module if not title else place(title), name, None)
    return None if value is None else int(value)

print(json.dumps({
    "version": getattr(module, "__version__", ""),
    "functions": {name: told(module, name) for name in wanted["functions"] if hasattr(module, name)},
    "classes": {title: {name: told(place(title), name) for name in names if hasattr(place(title), name)}
                for title, names in wanted["classes"].items() if place(title)},
    "enums": {title: {name: member(title, name) for name in names} for title, names in wanted["enums"].items()},
}))
"""
_MODULES = {TENSORRT: "tensorrt_bindings", TENSORRT_RTX: "tensorrt_rtx", "cuda-bindings": "cuda.bindings.driver"}


def real_interface(name: str, version: str) -> Interface:
    """The same of the real package, as far as the fake has it. Fetches the package."""
    wanted = fake_interface(name, version)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(package(name, version, "--no-deps"))}
        if name == TENSORRT:
            _empty_libraries(Path(folder), version.split(".")[0])
            environment["LD_LIBRARY_PATH"] = folder
        command = [sys.executable, "-c", _READ, _MODULES.get(name, "pynvml")]
        result = subprocess.run(
            command, input=json.dumps(wanted), env=environment, capture_output=True, text=True, check=False, timeout=120
        )
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout.splitlines()[-1])
    told = answer.pop("version")
    assert told in ("", version), told
    for members in (answer["functions"], *answer["classes"].values()):
        for key, value in members.items():
            members[key] = _parsed(key, value) if isinstance(value, str) else value
    return dict(answer)


def _empty_libraries(folder: Path, major: str) -> None:
    """The real libraries are gigabytes that cannot be had everywhere; the bindings import with anything of their names."""
    source = folder / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in _SYMBOLS.split()))
    for library in _LIBRARIES:
        path = folder / f"lib{library}.so.{major}"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", path, f"-Wl,-soname,{path.name}", source], check=True)


def _parsed(name: str, text: str) -> list[list[str]]:
    """Overloads from a docstring of pybind11."""
    lines = re.findall(rf"^\s*(?:\d+\. )?{re.escape(name)}\((self: .*|)\) -> ", text, re.MULTILINE)
    return [_parameters(line) for line in lines]


def _parameters(line: str) -> list[str]:
    parts, depth = [""], 0
    for character in line:
        depth += (character in "([{<") - (character in ")]}>")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    named = [part.strip() for part in parts if part.strip()]
    return [part.split(":")[0] + ("=" if " = " in part else "") for part in named if not part.startswith("self")]


def stored() -> dict[str, Interface]:
    """What was read of the real packages, by name and version."""
    interfaces: dict[str, Interface] = json.loads(STORED.read_text())
    return interfaces


if __name__ == "__main__":
    text = json.dumps({f"{name} {version}": real_interface(name, version) for name, version in PACKAGES}, indent=1)
    for _ in range(2):  # lists on one line
        text = re.sub(r"\[\s+([^{}]*?)\s+\]", lambda match: f"[{' '.join(match[1].split())}]", text)
    STORED.write_text(text + "\n")
