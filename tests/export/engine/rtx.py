"""TensorRT-RTX for these tests, in a folder of its own, and always in a child process: its parser can end it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.packages import UnavailableError, package

VERSION = "1.7.1.116"
MARK = "RESULT "


def rtx_environment(**changes: str) -> dict[str, str]:
    """Variables with which a child process finds TensorRT-RTX; skips the test where it cannot be had."""
    try:
        folder = package("tensorrt-rtx-cu13", VERSION)
    except UnavailableError as error:
        pytest.skip(str(error))
    return {**os.environ, "PYTHONPATH": str(folder), **changes}


def run_rtx(body: str, *arguments: object, timeout: int = 600) -> subprocess.CompletedProcess[str]:
    """Run Python code with TensorRT-RTX at hand; ``sys.argv[1:]`` are the arguments."""
    command = [sys.executable, "-c", body, *map(str, arguments)]
    environment = rtx_environment()
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=timeout)


def export_program(*arguments: object, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run ``sparse-detr-export`` with TensorRT-RTX at hand."""
    command = [sys.executable, "-m", "sparse_detr_deploy.export.cli", *map(str, arguments)]
    environment = rtx_environment(**changes)
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=1800)


def results(output: str) -> list[Any]:
    """What a child printed as ``RESULT <json>`` lines."""
    return [json.loads(line.removeprefix(MARK)) for line in output.splitlines() if line.startswith(MARK)]


def build(onnx: Path, output: Path, *options: object) -> dict[str, Any]:
    """Build an engine of an exported file by the program; its part of the JSON document."""
    finished = export_program(onnx, "--output", output, "--engine", "tensorrt-rtx", "--json", *options)
    assert finished.returncode == 0, finished.stderr
    document: dict[str, Any] = json.loads(finished.stdout)[0]["engine"]
    return document
