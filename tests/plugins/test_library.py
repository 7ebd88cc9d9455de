"""What is built: host tests of kernels and plugin classes, exports, links, refusals of the build, architectures."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.plugins.conftest import Build, compile_tree, configure, header_options
from tests.plugins.packages import LEAN_VERSIONS, lean_runtime


@pytest.mark.network
@pytest.mark.parametrize(
    "name", ["ms_deform_attn", "select_tokens", "plugins_logger_10", "plugins_logger_11", "enqueue"]
)
def test_host(build: Build, name: str) -> None:
    """The kernels' own source on the CPU against the twins; the plugin classes, logging to either TensorRT."""
    result = build.ctest(name)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.network
@pytest.mark.parametrize("version", LEAN_VERSIONS)
def test_host_in_a_registry(build: Build, version: str) -> None:
    """The plugin classes in the real registry of a TensorRT runtime."""
    lean_runtime(version)
    result = build.ctest(f"registry_libnvinfer_lean.so.{version.split('.')[0]}")
    assert result.returncode == 0, result.stdout + result.stderr


def symbols(library: Path, option: str) -> set[str]:
    if shutil.which("nm") is None:
        pytest.skip("nm is not installed")
    output = subprocess.run(["nm", "-D", option, str(library)], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1].split("@")[0] for line in output.splitlines()}


@pytest.mark.network
def test_exports_nothing_but_the_two_entries(build: Build) -> None:
    assert symbols(build.library, "--defined-only") == {"getCreators", "setLoggerFinder"}


@pytest.mark.network
def test_links_neither_tensorrt_nor_cudart(build: Build) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed")
    output = subprocess.run(["readelf", "-d", str(build.library)], capture_output=True, text=True, check=True).stdout
    needed = [line.split("[")[1].split("]")[0] for line in output.splitlines() if "NEEDED" in line]
    system = ("libc.", "libm.", "libdl.", "librt.", "libpthread.", "ld-linux")
    assert [name for name in needed if not name.startswith(system)] == []
    assert "RPATH" not in output
    assert "RUNPATH" not in output
    undefined = symbols(build.library, "--undefined-only")
    assert not [name for name in undefined if "nvinfer" in name or name.startswith("cuda") or "TensorRT" in name]


def test_build_without_headers_says_what_is_missing(tmp_path: Path) -> None:
    result = configure(tmp_path / "build", f"-DTensorRT_INCLUDE_DIR={tmp_path}")
    assert result.returncode != 0
    assert "no NvInferRuntime.h in TensorRT_INCLUDE_DIR" in " ".join(result.stderr.split())


def test_headers_of_tensorrt_8_are_refused(tmp_path: Path) -> None:
    (tmp_path / "NvInferRuntime.h").touch()
    (tmp_path / "NvInferVersion.h").write_text("#define NV_TENSORRT_MAJOR 8\n#define NV_TENSORRT_MINOR 6\n")
    result = configure(tmp_path / "build", f"-DTensorRT_INCLUDE_DIR={tmp_path}")
    assert result.returncode != 0
    assert "TensorRT 8.6 is too old" in result.stderr


@pytest.mark.network
@pytest.mark.slow
def test_all_architectures_compile(tmp_path: Path) -> None:
    result = configure(tmp_path, "-DSPARSE_DETR_TESTS=OFF", "-DSPARSE_DETR_WARNINGS_AS_ERRORS=ON", *header_options())
    assert result.returncode == 0, result.stderr
    (entry,) = [
        line
        for line in (tmp_path / "CMakeCache.txt").read_text().splitlines()
        if line.startswith("CMAKE_CUDA_ARCHITECTURES")
    ]
    architectures = entry.split("=")[1].split(";")
    assert architectures[:5] == ["75-real", "80-real", "86-real", "89-real", "90-real"]
    assert not architectures[-1].endswith("-real")  # machine code and PTX for the newest
    compile_tree(tmp_path)
    assert symbols(tmp_path / "libsparse_detr_plugins.so", "--defined-only") == {"getCreators", "setLoggerFinder"}
