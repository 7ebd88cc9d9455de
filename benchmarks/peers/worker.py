"""One entry in a process of its own: it loads, warms up, tells its peak memory, then runs whenever it is its turn."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from sparse_detr_deploy.benchmarks.peers.entries import Entry
from sparse_detr_deploy.child_processes import child_command
from sparse_detr_deploy.errors import BackendError

MEMORY_DEFINITION = (
    "peak resident memory (VmHWM on Linux, else ru_maxrss) of the entry's own process after loading and the warm-up runs; "
    "the interpreter, NumPy, OpenCV and the runtime are included"
)


class Worker:
    """The process of one entry. Use it as a context manager, so that no process is left behind."""

    def __init__(self, entry: Entry, image: Path, threads: int, warmup: int) -> None:
        """Start the process and wait until it has warmed up.

        Args:
            entry: what it runs.
            image: ``.npy`` file, float32 [1, 3, H, W].
            threads: of each run.
            warmup: runs before the peak memory is read, at least 1.

        Raises:
            BackendError: it ended instead; the message holds the last line that it said.
        """
        request = {**dataclasses.asdict(entry), "image": str(image), "threads": threads, "warmup": warmup}
        self._entry = entry
        self._said = tempfile.TemporaryFile(mode="w+", encoding="utf-8")  # noqa: SIM115 (closed in close)
        self._process = subprocess.Popen(
            child_command("sparse_detr_deploy.benchmarks.peers.worker", json.dumps(request)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"},
        )
        try:
            ready = self._answer()
        except BaseException:
            self.close()
            raise
        self.peak_memory_mib: float = ready["peak_mib"]
        self.load_s: float = ready["load_s"]

    def take_turn(self) -> float:
        """Run once; milliseconds."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer will tell why
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return float(self._answer()["ms"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._said.seek(0)
            said = [text.strip() for text in self._said if text.strip()]
            raise BackendError(
                f"{self._entry.title}: {said[-1] if said else f'its process ended with status {status}'}"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _serve(request: dict[str, Any], turns: Iterable[str], answers: Any) -> None:
    import numpy as np

    from sparse_detr_deploy.benchmarks.memory import own_peak
    from sparse_detr_deploy.benchmarks.peers.entries import open_session

    images = np.load(request["image"])
    start = time.perf_counter()
    run = open_session(request["kind"], request["options"], request["threads"])
    load = time.perf_counter() - start
    for _ in range(request["warmup"]):
        run(images)
    print(json.dumps({"peak_mib": own_peak(), "load_s": load}), file=answers, flush=True)
    for _ in turns:
        start = time.perf_counter()
        run(images)
        print(json.dumps({"ms": 1e3 * (time.perf_counter() - start)}), file=answers, flush=True)


if __name__ == "__main__":
    # whatever a library prints must not get between the answers
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _serve(json.loads(sys.argv[1]), sys.stdin, answers)
