"""Peak memory of one artefact, alone in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from sparse_detr_deploy import errors
from sparse_detr_deploy.benchmarks.contenders import Contender, Runtime
from sparse_detr_deploy.benchmarks.engine_timing import engine_runner
from sparse_detr_deploy.child_processes import child_command
from sparse_detr_deploy.errors import BackendError, SparseDetrError

DEFINITION = (
    "peak resident memory (VmHWM on Linux, else ru_maxrss) of a fresh Python process that loads the artefact and runs it "
    "twice on blank images; the interpreter, NumPy, OpenCV and the runtime are included"
)
DEVICE_DEFINITION = (
    "by how much the GPU's free memory fell in that process since before the engine was loaded: weights, activations, "
    "buffers and CUDA graphs, not the CUDA context; what other processes took meanwhile would count too"
)


@dataclasses.dataclass(frozen=True)
class Peaks:
    """MiB, see :data:`DEFINITION` and :data:`DEVICE_DEFINITION`; ``device`` of engines only."""

    resident: float
    device: float | None = None


def peak_memory(contender: Contender, runtime: Runtime) -> Peaks:
    """Memory that the artefact takes.

    Raises:
        SparseDetrError: what the process raised when it loaded or ran the artefact.
        BackendError: the process ended in another way.
    """
    request = {
        "path": str(contender.path),
        "runtime": vars(runtime),
        "keep_ratio": contender.keep_ratio,
        "batch": contender.batch,
    }
    command = child_command("sparse_detr_deploy.benchmarks.memory", json.dumps(request))
    finished = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if finished.returncode != 0:
        said = finished.stderr.strip().splitlines()[-1:] or [f"exit status {finished.returncode}"]
        raise BackendError(f"{contender.path} does not run alone in a process ({said[0]})")
    try:
        answer = json.loads(finished.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise BackendError(
            f"{contender.path} does not run alone in a process (it ended without telling its memory)"
        ) from None
    if "error" in answer:
        kind: type[SparseDetrError] = getattr(errors, answer["error"])
        raise kind(answer["message"])
    return Peaks(float(answer["peak_mib"]), answer["device_mib"])


def own_peak() -> float:
    """Peak resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # not ru_maxrss: Linux hands the parent's peak down through exec
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """What the process says: its peaks, or the error of the toolkit that stopped it."""
    device = None
    try:
        with Runtime(**request["runtime"]).open(Path(request["path"])) as detector:
            blank = np.zeros((detector.metadata.height, detector.metadata.width, 3), dtype=np.uint8)
            for _ in range(2):
                detector([blank] * request["batch"], keep_ratio=request["keep_ratio"])
            if (runner := engine_runner(detector)) is not None:
                device = runner.device_memory_mib()  # the second run has captured its CUDA graph
    except SparseDetrError as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {"peak_mib": own_peak(), "device_mib": device}


if __name__ == "__main__":
    # whatever a library prints, at its end too, must not come after the answer
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    print(f"\n{json.dumps(_answer(json.loads(sys.argv[1])))}", file=answers, flush=True)
