"""The plugin library, built once a session for one architecture."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from sparse_detr_deploy.export.engine.plugin_build import find_nvcc
from tests.plugins.packages import lean_libraries, pytest_runtest_setup, pytest_runtest_teardown, tensorrt_headers  # noqa: F401

ROOT = Path(__file__).parents[2]
ARCHITECTURE = "90"


@dataclass(frozen=True)
class Build:
    """A configured and built CMake tree."""

    folder: Path

    @property
    def library(self) -> Path:
        return self.folder / "libsparse_detr_plugins.so"

    def ctest(self, name: str) -> subprocess.CompletedProcess[str]:
        command = ["ctest", "--output-on-failure", "--no-tests=error", "-R", f"^{name}$"]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)


def configure(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run CMake on ``plugins/``; skips where there are no tools."""
    nvcc = find_nvcc()
    if nvcc is None or shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("building the plugins needs nvcc, cmake and a C++ compiler")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    command = ["cmake", "-S", str(ROOT / "plugins"), "-B", str(folder), *generator, f"-DCMAKE_CUDA_COMPILER={nvcc}"]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False)


def compile_tree(folder: Path) -> None:
    """Compile, one file at a time: the machine is shared."""
    result = subprocess.run(["cmake", "--build", str(folder), "-j1"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]


def header_options() -> list[str]:
    """Where CMake finds TensorRT's headers."""
    headers = tensorrt_headers()
    return [f"-DTensorRT_INCLUDE_DIR={headers}"] if headers else []


@pytest.fixture(scope="session")
def build() -> Build:
    """The library, its host tests and the registries to test it with; kept in ``build/``, so that a second run is fast."""
    folder = ROOT / "build" / "plugins" / f"sm{ARCHITECTURE}"
    registries = ";".join(str(library) for library in lean_libraries())
    result = configure(
        folder,
        f"-DCMAKE_CUDA_ARCHITECTURES={ARCHITECTURE}",
        "-DSPARSE_DETR_WARNINGS_AS_ERRORS=ON",
        f"-DPython3_EXECUTABLE={sys.executable}",
        f"-DSPARSE_DETR_REGISTRIES={registries}",
        *header_options(),
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    compile_tree(folder)
    return Build(folder)
