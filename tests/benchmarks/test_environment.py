from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path

import pytest

from sparse_detr_deploy import __version__
from sparse_detr_deploy.benchmarks import environment
from sparse_detr_deploy.errors import BackendError


def test_the_machine_is_described() -> None:
    described = environment.describe_environment()
    assert described["cpu"]
    assert described["cores_usable"] >= 1
    assert described["memory_gib"] > 0
    assert described["toolkit_version"] == __version__
    time = datetime.datetime.fromisoformat(described["time_utc"])
    assert abs(datetime.datetime.now(datetime.timezone.utc) - time) < datetime.timedelta(minutes=5)


def test_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(BackendError, match=r"psutil is not installed: pip install 'sparse-detr-deploy\[bench\]'"):
        environment.describe_environment()


def test_git_commit(tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    file.write_text("one")
    assert environment.git_commit(file) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "file.txt"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    commit = environment.git_commit(file)
    assert commit is not None
    assert len(commit) == 40
    file.write_text("two")
    assert environment.git_commit(file) == f"{commit}+changes"
    untracked = tmp_path / "other.txt"
    untracked.write_text("not of this checkout")
    assert environment.git_commit(untracked) is None


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.git_commit(Path(__file__)) is None
