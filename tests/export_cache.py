"""Exported files on disk, under a key of all that made them: a second run of the tests, and a second worker, reads them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sparse_detr_deploy import native_ops
from sparse_detr_deploy.export.pipeline import ExportResult, export_artefacts
from sparse_detr_deploy.export.spec import ExportSpec, artefact_name
from sparse_detr_deploy.export.verification_report import VerificationReport
from sparse_detr_deploy.hashing import sha256_of
from sparse_detr_deploy.modeling import SparseDETR
from sparse_detr_deploy.onnx_metadata import read_metadata
from sparse_detr_deploy.process_lock import process_lock
from tests.sources import ROOT, package_sources

FOLDER = ROOT / "build" / "test-artefacts"
_KEPT_SECONDS = 3600
_PACKAGES = ("torch", "onnx", "onnxscript", "onnx-ir", "onnxruntime", "numpy", "opencv-python")
_LEFT_OUT = {"benchmarks", "training"}  # no export imports them
_SWITCHES = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "MKL_ENABLE_INSTRUCTIONS",
    "OMP_NUM_THREADS",
    "SPARSE_DETR_CPU_LEVEL",
)


@functools.cache
def makers() -> str:
    """Short SHA-256 of what makes an exported file and its verification: sources, kernels, versions, instruction set."""
    digest = hashlib.sha256()
    kernels = native_ops.library_path()
    sources = [path for path in package_sources() if not _LEFT_OUT & set(path.relative_to(ROOT).parts)]
    for path in (*sources, *([kernels] if kernels else [])):
        digest.update(f"{os.path.relpath(path, ROOT)} {sha256_of(path)}\n".encode())  # the kernels may lie elsewhere
    versions = [f"{name} {version(name)}" for name in _PACKAGES]
    switches = [f"{name}={os.environ.get(name)}" for name in _SWITCHES]
    digest.update("\n".join([sys.version, platform.machine(), *versions, *switches]).encode())
    digest.update(torch.backends.cpu.get_cpu_capability().encode())
    return digest.hexdigest()[:16]


def remove_old() -> None:
    """Remove what other sources have made, unless a run beside this one may still read it."""
    for folder in FOLDER.iterdir() if FOLDER.is_dir() else ():
        if folder.name != makers() and time.time() - folder.stat().st_mtime > _KEPT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def exported(model: SparseDETR, spec: ExportSpec) -> ExportResult:
    """The verified artefact of a network with random weights or of a checkpoint; made where no run before has made it."""
    assert model.source.keys() & {"random_weights", "sha256"}, "nothing says which weights it has"
    made_of: list[Any] = [model.source, model.config.to_dict(), dataclasses.asdict(spec)]
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
    folder = FOLDER / makers() / key
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder.parent)  # it is in use: remove_old
    path = folder / f"{artefact_name(model.config, spec)}.onnx"
    with process_lock(folder / "lock", lambda holder: None):
        found = _read(path)
        if found is None:
            found = export_artefacts(model, [spec], folder, overwrite=True)[0]
            path.with_suffix(".sha256").write_text(found.sha256)
    return found


def _read(path: Path) -> ExportResult | None:
    """What is there, unless a test or a stop has damaged it."""
    try:
        sha256 = path.with_suffix(".sha256").read_text()
        if sha256_of(path) != sha256:
            return None
    except (OSError, ValueError):  # ValueError: no text
        return None
    metadata = read_metadata(path)
    return ExportResult(path, metadata, VerificationReport(**metadata.verification), sha256)
