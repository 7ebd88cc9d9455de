"""A tool gives its output; interrupted, nothing of what it started goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparse_detr_deploy.external_tools import run_tool
from tests.processes import has_ended

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs process groups")
PROGRAM = """
import sys
from sparse_detr_deploy import external_tools
from sparse_detr_deploy.cli_support import reports_errors
external_tools._GRACE = 0.5
@reports_errors
def main():
    external_tools.run_tool(["sh", "-c", sys.argv[1]])
main()
"""


def test_status_and_output() -> None:
    assert run_tool(["sh", "-c", "echo one; echo two >&2; printf '\\377'; exit 3"]) == (3, "one\ntwo\n�")
    assert run_tool(["cat"]) == (0, "")  # there is nothing to read for it


@pytest.mark.parametrize("prelude", ["", "trap '' TERM; "], ids=["heeds", "ignores"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_all_of_it_ends(prelude: str, number: signal.Signals, tmp_path: Path) -> None:
    numbers = tmp_path / "numbers"
    script = f"{prelude}sleep 300 & echo $$ $! > {numbers}.part; mv {numbers}.part {numbers}; wait; wait; sleep 300"
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, script], stderr=subprocess.PIPE, text=True)
    while not numbers.exists():
        assert program.poll() is None
        time.sleep(0.02)
    program.send_signal(number)
    _, errors = program.communicate(timeout=60)
    assert program.returncode == (143 if number == signal.SIGTERM else 130), errors
    assert all(has_ended(int(text)) for text in numbers.read_text().split())
