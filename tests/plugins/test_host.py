"""The plugin classes with nothing but a C++ compiler: stubs of the headers, and kernels that only remember.

What is compiled here is the plugins' own source. With TensorRT's and CUDA's real headers the same tests run in
test_library.py.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"
TESTS = PLUGINS / "tests"
LIBRARY, ENQUEUE, CLASSES = "plugins.so", "test_enqueue", "test_plugins"
_OF_CLASSES = ("attention_plugin_tests", "selection_plugin_tests")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the library, the loggers and the tests."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    folder = tmp_path_factory.mktemp("host")
    shared = ("-shared", "-fPIC", "-fvisibility=hidden")
    for target, options, sources in (
        (LIBRARY, shared, [*sorted((PLUGINS / "tensorrt").glob("*.cpp")), TESTS / "recording_kernels.cpp"]),
        (ENQUEUE, (), [TESTS / "test_enqueue.cpp"]),
        (CLASSES, (), [TESTS / f"{name}.cpp" for name in ("test_plugins", *_OF_CLASSES)]),
        ("logger10.so", (*shared[:2], "-DTENSORRT_MAJOR=10"), [TESTS / "foreign_logger.cpp"]),
        ("logger11.so", (*shared[:2], "-DTENSORRT_MAJOR=11"), [TESTS / "foreign_logger.cpp"]),
    ):
        command = [compiler, "-std=c++17", "-O0", "-Wall", "-Wextra", "-Werror", "-I", TESTS / "stubs", *options]
        result = subprocess.run(
            [*command, "-o", folder / target, *sources, "-ldl", "-pthread"], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr[-4000:]
    return folder


@pytest.mark.parametrize("logger", ["logger10.so", "logger11.so"])
@pytest.mark.parametrize("program", [ENQUEUE, CLASSES])
def test_plugin_classes(program: str, logger: str, compiled: Path) -> None:
    """Logging to either TensorRT."""
    command = [compiled / program, compiled / LIBRARY, compiled / logger]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
