"""Compilers and build tools: when the process that runs one is interrupted, the tool and all that it started end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

_GRACE = 5.0  # seconds that tools get to remove what they have half written


def run_tool(command: Sequence[str]) -> tuple[int, str]:
    """Run a tool to its end; gives its exit status and what it wrote to stdout and stderr.

    It runs as a process group of its own. On Ctrl-C, SIGTERM (where it interrupts, as in the command-line programs) or
    any other exception the whole group is ended before the exception goes on: make and ninja start compilers, which
    would go on without them.

    Raises:
        OSError: it cannot be started.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate()
        except BaseException:
            _end_group(process)
            raise
    return process.returncode, output


def _end_group(process: subprocess.Popen[str]) -> None:
    try:
        _signal_group(process, signal.SIGTERM)
        # the output ends when all of them have ended; until then the first one is not reaped, so its number stays taken
        with contextlib.suppress(subprocess.TimeoutExpired, ValueError, OSError):
            process.communicate(timeout=_GRACE)
    finally:
        _signal_group(process, signal.SIGKILL)


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
