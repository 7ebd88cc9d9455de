"""A lock excludes other processes, says who holds it, and never outlives its holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sparse_detr_deploy.errors import OutputError
from sparse_detr_deploy.process_lock import process_lock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
HOLD = """
import sys
from pathlib import Path
from sparse_detr_deploy.process_lock import process_lock
with process_lock(Path(sys.argv[1]), lambda holder: print("waiting for", holder, flush=True)):
    print("now", flush=True)
    sys.stdin.readline()
"""
COUNT = """
import sys
from pathlib import Path
from sparse_detr_deploy.process_lock import process_lock
folder = Path(sys.argv[1])
for _ in range(40):
    with process_lock(folder / "lock", lambda holder: None):
        (folder / "count").write_text(str(int((folder / "count").read_text()) + 1))
"""
Start = Callable[[Path], "subprocess.Popen[str]"]


def never(holder: str) -> None:
    pytest.fail(f"the lock is said to be held by {holder}")


def refuse(holder: str) -> None:
    raise OutputError(f"held by {holder}")


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that want a lock, and hold it until they are sent a line."""
    started: list[subprocess.Popen[str]] = []

    def begin(path: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_nothing_is_left(tmp_path: Path) -> None:
    with process_lock(tmp_path / "lock", never):
        assert (tmp_path / "lock").read_text().split()[0] == str(os.getpid())
    assert list(tmp_path.iterdir()) == []


def test_a_holder_is_named_and_not_disturbed(tmp_path: Path, start: Start) -> None:
    holder = start(tmp_path / "lock")
    assert said(holder) == "now"
    for _ in range(2):
        with (
            pytest.raises(OutputError, match=f"held by process {holder.pid}$"),
            process_lock(tmp_path / "lock", refuse),
        ):
            pass
    holder.communicate("\n")
    with process_lock(tmp_path / "lock", never):
        pass


def test_a_killed_holder_holds_nothing(tmp_path: Path, start: Start) -> None:
    holder = start(tmp_path / "lock")
    assert said(holder) == "now"
    holder.kill()
    holder.wait()
    assert (tmp_path / "lock").exists()  # which is not what counts
    with process_lock(tmp_path / "lock", never):
        pass


def test_it_is_waited_for(tmp_path: Path, start: Start) -> None:
    holder = start(tmp_path / "lock")
    assert said(holder) == "now"
    waiting = start(tmp_path / "lock")
    assert said(waiting) == f"waiting for process {holder.pid}"
    holder.communicate("\n")
    assert said(waiting) == "now"
    with pytest.raises(OutputError, match=f"held by process {waiting.pid}$"), process_lock(tmp_path / "lock", refuse):
        pass


def test_waiting_can_be_interrupted(tmp_path: Path, start: Start) -> None:
    holder = start(tmp_path / "lock")
    assert said(holder) == "now"
    waiting = start(tmp_path / "lock")
    assert said(waiting).startswith("waiting")
    waiting.send_signal(signal.SIGINT)
    waiting.wait(timeout=60)
    with pytest.raises(OutputError, match="held by"), process_lock(tmp_path / "lock", refuse):
        pass


def test_one_at_a_time(tmp_path: Path) -> None:
    """Though every holder removes the file that the others wait for."""
    (tmp_path / "count").write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path)]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "160"


def test_a_name_that_is_taken(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "victim").write_text("content")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    for name in ("fifo", "link"):
        with pytest.raises(OSError), process_lock(tmp_path / name, never):  # noqa: PT011
            pass
    assert (tmp_path / "victim").read_text() == "content"
    assert (tmp_path / "link").is_symlink()
