"""``doctor`` tells what there is on any machine, with the mend for what is not, and never fails over it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.export import cli
from sparse_detr_deploy.export.engine import doctor
from sparse_detr_deploy.export.engine.doctor import ABSENT, GOOD, WRONG, Finding, examine, runs_on
from sparse_detr_deploy.export.engine.gpu import Driver, Gpu
from sparse_detr_deploy.export.pipeline import ExportResult
from tests.export.engine.rtx import VERSION, rtx_environment


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


def test_every_red_line_has_its_mend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with nothing: no driver, no flavour, no library."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SPARSE_DETR_PLUGINS", raising=False)
    monkeypatch.setattr(doctor, "query_driver", lambda: Driver(problem="no NVIDIA driver is installed"))
    findings = by_subject(examine())
    assert findings["NVIDIA driver"].state == ABSENT
    assert findings["plugin library"] == dataclasses.replace(
        findings["plugin library"], state=ABSENT, mend="sparse-detr-export plugins build"
    )
    assert {"TensorRT", "TensorRT-RTX", "ONNX Runtime", "OpenVINO", "CPU kernel", "PyTorch"} <= set(findings)
    assert all(finding.mend for finding in findings.values() if finding.state != GOOD)


def test_a_library_for_another_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = tmp_path / "libsparse_detr_plugins.so"
    library.write_bytes(b"")
    monkeypatch.setenv("SPARSE_DETR_PLUGINS", str(library))
    monkeypatch.setattr(doctor, "query_driver", lambda: Driver("13.0", (Gpu("A GPU", "sm86"),)))
    monkeypatch.setattr(doctor, "architectures", lambda path: ("sm89", "sm120", "ptx120"))
    found = by_subject(examine())
    assert found["GPU"].found == "A GPU, sm86"
    assert found["plugin library"].state == WRONG
    assert found["plugin library"].mend == "sparse-detr-export plugins build --architectures 86"
    monkeypatch.setattr(doctor, "architectures", lambda path: ())
    assert "no CUDA code" in by_subject(examine())["plugin library"].found
    monkeypatch.setenv("SPARSE_DETR_PLUGINS", str(tmp_path / "gone.so"))
    assert by_subject(examine())["plugin library"].state == WRONG


def test_a_flavour_that_is_there_but_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is wrong, and not absent."""

    def load(name: str) -> object:
        raise BackendError(f"{name} 1.0 is too old: newer is needed")

    monkeypatch.setattr(doctor, "query_driver", lambda: Driver(problem="no NVIDIA driver is installed"))
    monkeypatch.setattr(doctor, "load_flavour", load)
    for found, state in ((None, ABSENT), (object(), WRONG)):
        monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name, found=found: found)
        line = by_subject(examine())["TensorRT-RTX"]
        assert (line.state, line.found) == (state, "tensorrt-rtx 1.0 is too old")
        assert line.mend == "pip install 'sparse-detr-deploy[rtx]'"


@pytest.mark.parametrize(
    ("capability", "built_for", "expected"),
    [
        ("sm89", ("sm89",), True),
        ("sm89", ("sm86",), True),
        ("sm86", ("sm89",), False),
        ("sm90", ("sm89",), False),
        ("sm90", ("ptx80",), True),
        ("sm121", ("sm120",), True),
        ("sm75", ("sm80", "ptx90"), False),
    ],
)
def test_what_runs_where(capability: str, built_for: tuple[str, ...], expected: bool) -> None:
    """Machine code within a generation, upwards; PTX on anything newer."""
    assert runs_on(capability, built_for) is expected


def test_limits_of_a_file(export_tiny: object, dynamic_tiny: ExportResult, monkeypatch: pytest.MonkeyPatch) -> None:
    found = by_subject(examine(dynamic_tiny.path))
    assert (found["tokens kept"].state, found["detections"].state, found["queries"].state) == (GOOD, GOOD, GOOD)
    monkeypatch.setattr(doctor, "MAX_TOPK", 15)
    found = by_subject(examine(dynamic_tiny.path))
    assert "18 rounds" in found["tokens kept"].found
    assert (found["detections"].state, found["queries"].state) == (WRONG, WRONG)
    assert "--num-detections" in found["detections"].mend


def test_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "query_driver", lambda: Driver(problem="no NVIDIA driver is installed"))
    runner = CliRunner()
    table = runner.invoke(cli.main, ["doctor"])
    assert table.exit_code == 0, table.output
    assert "sparse-detr-deploy[tensorrt]" in table.stdout
    assert runner.invoke(cli.main, ["doctor", "--strict"]).exit_code == 7
    documents = json.loads(runner.invoke(cli.main, ["doctor", "--json"]).stdout)
    assert {"subject", "state", "found", "mend"} == set(documents[0])
    missing = runner.invoke(cli.main, ["doctor", str(tmp_path / "no.onnx")])
    assert missing.exit_code == 4


def test_a_file_that_is_not_as_it_was_exported(dynamic_tiny: ExportResult, tmp_path: Path) -> None:
    """A script that asks before it deploys learns it by the exit code."""
    content = bytearray(dynamic_tiny.path.read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    finished = CliRunner().invoke(cli.main, ["doctor", str(path)])
    assert finished.exit_code == 4
    assert "damaged or changed" in finished.stdout
    assert "x.onnx is not as it was exported" in finished.stderr
    assert CliRunner().invoke(cli.main, ["doctor", str(dynamic_tiny.path)]).exit_code == 0


def test_a_bare_machine() -> None:
    """Without torch, onnx and the runtimes; nothing of them is imported."""
    code = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("torch", "onnx", "onnxruntime", "openvino"): raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "onnxruntime" else find(name, *rest)
sys.argv = ["sparse-detr-export", "doctor", "--json"]
from sparse_detr_deploy.export.cli import main
main()
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    states = {entry["subject"]: entry["state"] for entry in json.loads(finished.stdout)}
    assert states["ONNX Runtime"] == ABSENT


@pytest.mark.network
def test_a_flavour_that_is_there() -> None:
    command = [sys.executable, "-m", "sparse_detr_deploy.export.cli", "doctor", "--json"]
    finished = subprocess.run(command, env=rtx_environment(), capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    found = {entry["subject"]: entry for entry in json.loads(finished.stdout)}
    assert (found["TensorRT-RTX"]["state"], found["TensorRT-RTX"]["found"]) == (GOOD, VERSION)
