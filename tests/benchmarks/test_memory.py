"""The process that tells its peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sparse_detr_deploy.benchmarks import memory
from sparse_detr_deploy.benchmarks.contenders import Contender, Runtime
from sparse_detr_deploy.benchmarks.memory import Peaks
from sparse_detr_deploy.errors import ArtefactError, BackendError, InputError

# imports nothing that is large, then holds 64 MiB and frees them
FREES = """
from sparse_detr_deploy.benchmarks.memory import own_peak
before = own_peak()
block = b"x" * (64 << 20)
del block
print(own_peak() - before)
"""
TALKATIVE = """
import atexit, os
print("a runtime says hello", flush=True)
atexit.register(os.write, 1, b"and goodbye")
block = b"x" * (320 << 20)  # free again before anything is measured
del block
"""


def contender(path: Path, keep_ratio: float | None = None, batch: int = 1) -> Contender:
    return Contender("x", path, None, "", keep_ratio, batch)  # type: ignore[arg-type]


def test_the_peak_is_of_what_was_freed_too() -> None:
    said = subprocess.run([sys.executable, "-c", FREES], capture_output=True, text=True, check=True).stdout
    assert 60 < float(said) < 80


def at_the_start(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every Python process run ``code`` first."""
    (folder / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_a_runtime_that_talks(artefacts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_the_start(TALKATIVE, tmp_path, monkeypatch)
    found = memory.peak_memory(contender(artefacts["fixed"]), Runtime(threads=1))
    assert 320 < found.resident < 3200
    assert found.device is None  # of a file it is of the host alone


def test_nothing_of_the_working_directory_is_measured(
    artefacts: dict[str, Path], hostile_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hostile_folder)
    monkeypatch.setattr(sys, "path", list(filter(None, sys.path)))  # as of an installed program
    assert memory.peak_memory(contender(artefacts["fixed"]), Runtime(threads=1)).resident > 16
    assert not (hostile_folder.parent / "ran").exists()


def answers(monkeypatch: pytest.MonkeyPatch, stdout: str, returncode: int = 0, stderr: str = "") -> list[list[str]]:
    """Have the process end like that; gives the commands."""
    commands: list[list[str]] = []

    def run(command: list[str], **options: Any) -> Any:
        commands.append(command)
        return SimpleNamespace(returncode=returncode, stdout=stdout, stderr=stderr)

    monkeypatch.setattr(memory.subprocess, "run", run)
    return commands


def test_the_process_is_asked_for_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = answers(monkeypatch, 'chatter\n{"peak_mib": 300.5, "device_mib": 40.25}\n')
    runtime = Runtime("onnxruntime", "cuda", threads=3, device=1)
    assert memory.peak_memory(contender(Path("a.onnx"), 0.25, 4), runtime) == Peaks(300.5, 40.25)
    request = json.loads(commands[0][-1])
    assert request == {"path": "a.onnx", "runtime": vars(runtime), "keep_ratio": 0.25, "batch": 4}


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (("", 1, "Traceback\n  line\nKilled by somebody\n"), r"\(Killed by somebody\)"),
        (("", -9, ""), r"\(exit status -9\)"),
        (("", 0, ""), "it ended without telling its memory"),
        (("a runtime says hello\n", 0, ""), "it ended without telling its memory"),
    ],
)
def test_a_process_that_does_not_answer(
    ending: tuple[str, int, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, *ending)
    with pytest.raises(BackendError, match=f"a.onnx does not run alone in a process .*{said}"):
        memory.peak_memory(contender(Path("a.onnx")), Runtime())


def test_what_the_process_raised_is_raised_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = memory._answer({"path": str(tmp_path / "none.onnx"), "runtime": {}, "keep_ratio": None, "batch": 1})
    answers(monkeypatch, json.dumps(answer))
    with pytest.raises(ArtefactError, match=r"none\.onnx"):
        memory.peak_memory(contender(tmp_path / "none.onnx"), Runtime())
    answers(monkeypatch, json.dumps({"error": "InputError", "message": "of another kind"}))
    with pytest.raises(InputError, match="of another kind"):
        memory.peak_memory(contender(tmp_path / "none.onnx"), Runtime())


def test_the_process_runs_the_batch_twice_at_the_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[tuple[int, ...]], int, float | None]] = []

    class Detector:
        metadata = SimpleNamespace(height=2, width=3)
        runner = None

        def __enter__(self) -> Detector:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def __call__(self, images: list[np.ndarray[Any, Any]], keep_ratio: float | None) -> None:
            calls.append(([image.shape for image in images], int(sum(image.sum() for image in images)), keep_ratio))

    opened: list[Runtime] = []
    monkeypatch.setattr(Runtime, "open", lambda self, path: opened.append(self) or Detector())
    monkeypatch.setattr(memory, "own_peak", lambda: 123.0 if len(calls) == 2 else 1.0)
    request = {"path": "a.onnx", "runtime": vars(Runtime(threads=3)), "keep_ratio": 0.25, "batch": 2}
    assert memory._answer(request) == {"peak_mib": 123.0, "device_mib": None}
    assert calls == [([(2, 3, 3)] * 2, 0, 0.25)] * 2
    assert opened == [Runtime(threads=3)]
