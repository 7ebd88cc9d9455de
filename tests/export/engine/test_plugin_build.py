"""Builds of the plugin library with stand-ins for its tools: two at once, and one that is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparse_detr_deploy.plugin_library import LIBRARY_NAME, cache_folder, source_key
from tests.processes import has_ended

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
# writes its process number and that of a compiler down, and waits as long as there is a file "slow" beside it
CMAKE = """#!/bin/sh
here=$(dirname "$0")
if [ "$1" = --build ]; then
  nvcc &
  echo $$ $! >> "$here/calls"
  wait
  mkdir -p "$2"
  echo "a library" > "$2/NAME"
fi
"""
NVCC = """#!/bin/sh
while [ -e "$(dirname "$0")/slow" ]; do sleep 0.05; done
"""
PROGRAM = "import sys; from sparse_detr_deploy.export.cli import main; main(['plugins', 'build', *sys.argv[1:]])"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the stand-ins; the cache is empty."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("cmake", CMAKE.replace("NAME", LIBRARY_NAME)), ("nvcc", NVCC)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def begin(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def calls(tools: Path) -> list[list[int]]:
    path = tools / "calls"
    return [[int(text) for text in line.split()] for line in path.read_text().splitlines()] if path.exists() else []


def started(tools: Path, process: subprocess.Popen[str]) -> None:
    while not calls(tools):
        assert process.poll() is None
        time.sleep(0.02)


def test_two_at_once_build_once(tools: Path) -> None:
    slow = tools / "slow"
    slow.touch()
    first = begin()
    started(tools, first)
    second = begin()
    assert second.stderr is not None
    assert second.stderr.readline() == f"waiting for process {first.pid}, which builds the same library\n"
    other = begin("--architectures", "89")  # which is another library
    while len(calls(tools)) < 2:
        assert other.poll() is None
        time.sleep(0.02)
    slow.unlink()
    results = [process.communicate(timeout=120) for process in (first, second, other)]
    assert [process.returncode for process in (first, second, other)] == [0, 0, 0], results
    library = cache_folder() / f"{source_key()}-all" / LIBRARY_NAME
    assert results[0][0] == results[1][0] == f"{library}\n"
    assert library.read_text() == "a library\n"
    assert len(calls(tools)) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_build_leaves_nothing(number: signal.Signals, tools: Path) -> None:
    """Neither files nor compilers; and the next one builds."""
    (tools / "slow").touch()
    program = begin()
    started(tools, program)
    program.send_signal(number)
    _, errors = program.communicate(timeout=120)
    assert program.returncode == (143 if number == signal.SIGTERM else 130), errors
    assert list(cache_folder().iterdir()) == []
    assert all(has_ended(process) for process in calls(tools)[0])
    (tools / "slow").unlink()
    again = begin()
    assert again.communicate(timeout=120)[0].strip().endswith(LIBRARY_NAME)


def test_a_killed_build_hangs_nobody(tools: Path) -> None:
    (tools / "slow").touch()
    killed = begin()
    started(tools, killed)
    killed.kill()
    killed.communicate()
    (tools / "slow").unlink()
    again = begin()
    output, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    library = Path(output.strip())
    assert sorted(path.name for path in cache_folder().rglob("*")) == sorted([library.parent.name, LIBRARY_NAME])
