"""``python -m tests.mutation.worker MODULE...``: runs pytest again and again, each time in a fork of a process that has
imported the modules: the packages that tests need take longer to import than most tests run.

A line of JSON in: ``{"arguments": [...], "seconds": limit, "output": file}``. A line out: ``{"status": exit status, or
null where it took longer than the limit, "seconds": ..., "cpu_seconds": ...}``.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import time
from typing import Any

# far more than any test needs: a fault must not take the machine's memory
_MOST_BYTES = 16 * 2**30


def main() -> None:
    for name in sys.argv[1:]:
        with contextlib.suppress(ImportError):  # what is not installed, the tests skip
            importlib.import_module(name)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())  # so that the tests end, too
    # not standard output itself, which in a fork becomes the file of what tests print
    answers = os.fdopen(os.dup(1), "w")
    with contextlib.suppress(BrokenPipeError):  # nobody reads them any more
        for line in sys.stdin:
            print(json.dumps(_run(**json.loads(line))), file=answers, flush=True)


def _run(arguments: list[str], seconds: float, output: str) -> dict[str, Any]:
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    number = os.fork()
    if number == 0:
        _test(arguments, output)
    status = None
    try:
        status = _status(number, started + seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(number, signal.SIGKILL)  # what it has started, too
        if status is None:
            os.waitpid(number, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"status": status, "seconds": time.monotonic() - started, "cpu_seconds": cpu}


def _test(arguments: list[str], output: str) -> None:
    """In the fork: never returns."""
    status = 70
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for new, old in ((nothing, 0), (file, 1), (file, 2)):
            os.dup2(new, old)
        import pytest

        status = int(pytest.main(arguments))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _status(number: int, deadline: float) -> int | None:
    while time.monotonic() < deadline:
        found, status = os.waitpid(number, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return None


if __name__ == "__main__":
    main()
