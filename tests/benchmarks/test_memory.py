"""The process that tells its peak memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sparse_detr_deploy.benchmarks import memory
from sparse_detr_deploy.benchmarks.contenders import Contender, Runtime
from sparse_detr_deploy.errors import ArtefactError, BackendError

TALKATIVE = """
import atexit, os
print("a runtime says hello", flush=True)
atexit.register(os.write, 1, b"and goodbye")
"""
SILENT = "import os; os._exit(0)"


def contender(path: Path) -> Contender:
    return Contender("x", path, None, "", None, 1)  # type: ignore[arg-type]


def test_memory_of_a_file_is_of_the_host_alone(artefacts: dict[str, Path]) -> None:
    assert memory.peak_memory(contender(artefacts["fixed"]), Runtime(threads=1)).device is None


def at_the_start(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every Python process run ``code`` first."""
    (folder / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_a_runtime_that_talks(artefacts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_the_start(TALKATIVE, tmp_path, monkeypatch)
    assert memory.peak_memory(contender(artefacts["fixed"]), Runtime(threads=1)).resident > 1
    with pytest.raises(ArtefactError, match=r"none\.onnx"):
        memory.peak_memory(contender(tmp_path / "none.onnx"), Runtime(threads=1))


def test_a_process_that_does_not_answer(
    artefacts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_start(SILENT, tmp_path, monkeypatch)
    with pytest.raises(BackendError, match="does not run alone"):
        memory.peak_memory(contender(artefacts["fixed"]), Runtime(threads=1))


def test_nothing_of_the_working_directory_is_measured(
    artefacts: dict[str, Path], hostile_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hostile_folder)
    monkeypatch.setattr(sys, "path", list(filter(None, sys.path)))  # as of an installed program
    assert memory.peak_memory(contender(artefacts["fixed"]), Runtime(threads=1)).resident > 1
    assert not (hostile_folder.parent / "ran").exists()
