"""Packages for these tests only, each in a folder of its own: headers, and TensorRT runtimes of two versions."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HEADERS = ("kernel-lens", "2.0.1")
LEAN_VERSIONS = ("10.16.1.11", "11.4.0.106")


_may_fetch = False


class UnavailableError(Exception):
    """A package that pip cannot install here."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """For conftest.py files: only tests that are marked with ``network`` come by a package, fetched now or before."""
    global _may_fetch
    _may_fetch = item.get_closest_marker("network") is not None


def pytest_runtest_teardown() -> None:
    """Whatever comes without these hooks may not."""
    global _may_fetch
    _may_fetch = False


def cache_folder() -> Path:
    """Where packages are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sparse-detr-deploy" / "tests"


def package(name: str, version: str, *options: str) -> Path:
    """Folder with a package installed by pip, whole or not at all; :class:`UnavailableError` where it cannot be had."""
    if "PYTEST_CURRENT_TEST" in os.environ and not _may_fetch:
        pytest.fail(f"{name} is fetched in a test without the marker 'network'")
    folder = cache_folder() / f"{name}-{version}-py{sys.version_info.major}{sys.version_info.minor}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", temporary, *options]
        result = subprocess.run([*command, f"{name}=={version}"], capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise UnavailableError(f"{name} {version} cannot be installed: {result.stderr.strip().splitlines()[-1:]}")
        if not folder.exists():
            shutil.move(temporary, folder)
            Path(temporary).mkdir()  # so that its removal finds it
    return folder


def lean_runtime(version: str) -> Path:
    """Folder of TensorRT's lean runtime, to be put on PYTHONPATH; skips the test where it cannot be had."""
    try:
        return package("tensorrt-lean-cu13", version)
    except UnavailableError as error:
        pytest.skip(str(error))


def lean_libraries() -> list[Path]:
    """The shared libraries of the lean runtimes that can be had."""
    libraries = []
    for version in LEAN_VERSIONS:
        with contextlib.suppress(UnavailableError):
            folder = package("tensorrt-lean-cu13", version) / "tensorrt_lean_libs"
            libraries.append(folder / f"libnvinfer_lean.so.{version.split('.')[0]}")
    return libraries


def tensorrt_headers() -> Path | None:
    """``None`` where CMake finds the headers by itself, else those of the kernel-lens package."""
    if os.environ.get("TENSORRT_ROOT") or Path("/usr/include/x86_64-linux-gnu/NvInferRuntime.h").exists():
        return None
    if importlib.util.find_spec("kernel_lens"):
        return None
    try:
        return package(*HEADERS, "--no-deps") / "kernel_lens" / "include" / "tensorrt"
    except UnavailableError as error:
        pytest.skip(f"there are no TensorRT headers: {error}")
