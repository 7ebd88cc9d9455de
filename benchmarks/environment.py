"""The machine and the software that a measurement was made with."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from sparse_detr_deploy import __version__
from sparse_detr_deploy.errors import BackendError

_PACKAGES = (
    "numpy",
    "opencv-python",
    "opencv-python-headless",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-cu12",
    "tensorrt-cu13",
    "tensorrt-rtx-cu13",
    "cuda-bindings",
    "pycocotools",
)


def describe_environment() -> dict[str, Any]:
    """CPU, memory, GPUs, operating system, versions, git commit and time (UTC); ``None`` for what cannot be told.

    Raises:
        BackendError: psutil is not installed.
    """
    try:
        import psutil
    except ImportError:
        raise BackendError("psutil is not installed: pip install 'sparse-detr-deploy[bench]'") from None

    return {
        "cpu": cpu_model(),
        "cores_physical": psutil.cpu_count(logical=False),
        "cores_logical": psutil.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": _gpus(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
        "toolkit_version": __version__,
        "git_commit": git_commit(Path(__file__)),
        "time_utc": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def load_average() -> list[float] | None:
    """Processes that wanted to run over 1, 5 and 15 minutes; ``None`` where the system does not tell."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def cpu_model() -> str:
    """Name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def git_commit(file: Path) -> str | None:
    """Commit of the checkout that tracks ``file``, with ``+changes`` where others differ from it; ``None`` outside one."""
    git = ["git", "-C", str(file.parent)]
    if _output([*git, "ls-files", "--error-unmatch", file.name]) is None:
        return None  # installed into some other project's checkout, perhaps
    commit = _output([*git, "rev-parse", "HEAD"])
    return f"{commit}+changes" if commit and _output([*git, "status", "--porcelain"]) else commit


def _gpus() -> list[str]:
    listing = _output(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    return listing.splitlines() if listing else []


def _output(command: list[str]) -> str | None:
    """What a program prints; ``None`` if it is absent, fails or hangs."""
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return finished.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
