"""Runtimes are imported by one door, which keeps them from reporting home."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Export
from tests.sources import package_sources

FOLDERS = {"HOME": "home", "XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config", "TMPDIR": "tmp"}
DETECT = """
import numpy as np, sys
from sparse_detr_deploy import Detector
with Detector.load(sys.argv[1], backend=sys.argv[2], num_threads=1) as detector:
    print(len(detector([np.zeros((50, 70, 3), np.uint8)])[0]))
"""
CONNECTS = re.compile(r"connect\(\d+, \{sa_family=AF_(INET|UNIX)|sendto\(")


def run(code: str, folder: Path, *arguments: object, **variables: str) -> str:
    """What a program prints, alone with empty folders in the place of the user's."""
    for name in FOLDERS.values():
        (folder / name).mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "CI", "GITHUB"))}
    environment |= {name: str(folder / place) for name, place in FOLDERS.items()} | variables
    command = [sys.executable, "-c", code, *map(str, arguments)]
    if strace := shutil.which("strace"):
        command = [
            strace,
            "-f",
            "-qq",
            "--seccomp-bpf",
            "-o",
            str(folder / "calls"),
            "-e",
            "trace=connect,sendto",
            *command,
        ]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_detecting_reports_nothing(backend: str, export_tiny: Export, tmp_path: Path) -> None:
    artefact = export_tiny(inline_functions=True).path
    assert run(DETECT, tmp_path, artefact, backend).split() == ["20"]
    assert [path for name in FOLDERS.values() for path in (tmp_path / name).rglob("*")] == []
    if (tmp_path / "calls").exists():
        assert not CONNECTS.search((tmp_path / "calls").read_text())


def test_the_user_decides_for_onnxruntime(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "sys.modules['onnxruntime'] = os  # the real one would report where the user lets it\n"
        "from sparse_detr_deploy.quiet_imports import import_onnxruntime\n"
        "assert import_onnxruntime() is os\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    assert run(code, tmp_path).strip() == "1"
    assert run(code, tmp_path, ORT_DISABLE_TELEMETRY="").strip() == "1"  # unset, as containers do it
    assert run(code, tmp_path, ORT_DISABLE_TELEMETRY="0").strip() == "0"


@pytest.mark.parametrize(("answer", "reports"), [(None, False), ("0", False), ("1", True)])
def test_the_user_decides_for_openvino(answer: str | None, reports: bool, tmp_path: Path) -> None:
    if answer is not None:
        (tmp_path / "home" / "intel").mkdir(parents=True)
        (tmp_path / "home" / "intel" / "openvino_telemetry").write_text(answer)
    code = (
        "import sys\n"
        "from sparse_detr_deploy.quiet_imports import import_openvino\n"
        "assert import_openvino() is import_openvino()\n"
        "print(import_openvino().__name__, 'openvino_telemetry' in sys.modules)\n"
        "import openvino_telemetry"
    )
    # its own switch for continuous integration keeps even the user's yes from the network here
    assert run(code, tmp_path, CI="true").split() == ["openvino", str(reports)]


def test_there_is_no_other_door() -> None:
    imports = re.compile(
        r"^\s*(import|from) (onnxruntime|openvino)\b|import_module\(.(onnxruntime|openvino)", re.MULTILINE
    )
    found = [path.name for path in package_sources() if imports.search(path.read_text(encoding="utf-8"))]
    assert found == ["quiet_imports.py"]
