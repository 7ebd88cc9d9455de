"""Whether tests find a fault."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.mutation.tree_copy import TreeCopy

# heavy packages that most tests import; none of the project's own, in which the faults lie
PRELOADED = ("pytest", "numpy", "cv2", "torch", "onnx", "onnxruntime", "onnxscript", "hypothesis", "scipy.optimize")
PRELOADED += ("pycocotools.cocoeval", "torch.export", "onnx_ir", "rich.console", "click", "imagesize", "psutil")

_OPTIONS = ("-x", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin")
_OPTIONS += ("--hypothesis-seed=0",)
_TIMES_CLEAN, _AT_LEAST = 5.0, 20.0  # a limit for a test run: this many times the clean one, and so many seconds more
_FIRST_LIMIT = 900.0  # of a clean run
_PASSED, _NOTHING_RUN = 0, 5  # of pytest's exit statuses


class Outcome(enum.Enum):
    """What became of a fault."""

    CAUGHT = "caught"
    SURVIVED = "survived"
    TIMED_OUT = "timed out"


@dataclasses.dataclass(frozen=True)
class Trial:
    """An outcome, how long it took, and the end of what pytest said."""

    outcome: Outcome
    seconds: float
    cpu_seconds: float
    said: str


class NotClean(Exception):
    """Tests fail without a fault."""


class Bench:
    """A copy of the tree, and a process that runs its tests.

    Args:
        root: of the tree.
        folder: for the copy and what tests write; it is made.
        preloaded: modules that the process imports first.
        clean: seconds that tests take without a fault, and are added to here.
    """

    def __init__(
        self,
        root: Path,
        folder: Path,
        preloaded: Sequence[str] = PRELOADED,
        clean: dict[tuple[str, ...], float] | None = None,
    ) -> None:
        folder.mkdir()
        self.copy = TreeCopy(root, folder / "tree")
        self._said = folder / "pytest.txt"
        self._temporary = folder / "tmp"
        self._clean = {} if clean is None else clean
        # one thread, of every library: several of these run side by side, and threads do not survive a fork
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._worker = subprocess.Popen(
            [self.copy.python, "-m", "tests.mutation.worker", *preloaded],
            cwd=self.copy.folder,
            env={
                **os.environ,
                **one,
                "TMPDIR": str(self._temporary),
                "PYTHONHASHSEED": "0",
                "ORT_DISABLE_TELEMETRY": "1",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.terminate()
        self._worker.communicate()

    def try_clean(self, tests: Sequence[str]) -> float:
        """Seconds that ``tests`` take without a fault; they are run once.

        Raises:
            NotClean: they do not pass, or there are none.
        """
        key = tuple(tests)
        if key not in self._clean:
            answer = self._run(tests, _FIRST_LIMIT)
            if answer["status"] != _PASSED:
                raise NotClean(f"{' '.join(tests)} without a fault: {self._last_words()}")
            self._clean[key] = answer["seconds"]
        return self._clean[key]

    def try_fault(self, sources: Mapping[str, str], tests: Sequence[str], native: bool = False) -> Trial:
        """Run ``tests`` with other contents of files. Raises :class:`NotClean` as :meth:`try_clean`."""
        limit = self.try_clean(tests) * _TIMES_CLEAN + _AT_LEAST
        try:
            with self.copy.planted(sources):
                if native:
                    self.copy.build_native()
                answer = self._run(tests, limit)
        finally:
            if native:
                self.copy.build_native()
        return Trial(_outcome(answer["status"]), answer["seconds"], answer["cpu_seconds"], self._last_words())

    def _run(self, tests: Sequence[str], seconds: float) -> dict[str, Any]:
        for folder in (
            self._temporary,
            self.copy.folder / ".hypothesis",
        ):  # the examples of one fault are not the next's
            shutil.rmtree(folder, ignore_errors=True)
        self._temporary.mkdir()
        request = {"arguments": [*_OPTIONS, *tests], "seconds": seconds, "output": str(self._said)}
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        print(json.dumps(request), file=self._worker.stdin, flush=True)
        answer = self._worker.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process that runs the tests has ended: {self._worker.wait()}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def _last_words(self) -> str:
        return self._said.read_text(errors="replace")[-1500:]


def _outcome(status: int | None) -> Outcome:
    if status is None:
        return Outcome.TIMED_OUT
    return Outcome.SURVIVED if status in (_PASSED, _NOTHING_RUN) else Outcome.CAUGHT
