"""What must hold before an engine file is handed to TensorRT, which says little of what is wrong and may not survive it."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
from pathlib import Path
from typing import Any

from sparse_detr_deploy.cuda import Device
from sparse_detr_deploy.engine_record import EngineRecord, read_sidecar
from sparse_detr_deploy.errors import ArtefactError, BackendError
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.regular_files import open_regular
from sparse_detr_deploy.signature import signature

_PACKAGES = {"tensorrt": ("tensorrt", "TensorRT", "tensorrt"), "tensorrt-rtx": ("tensorrt_rtx", "TensorRT-RTX", "rtx")}
_SAME_PARTS = 3  # of the version: major.minor.patch


@dataclasses.dataclass(frozen=True)
class EngineFile:
    """An engine file that is what its sidecar describes."""

    path: Path
    metadata: Metadata
    record: EngineRecord
    plan: bytes


def read_engine(path: Path) -> EngineFile:
    """Read an engine and its sidecar.

    Raises:
        ArtefactError: one of them is missing, empty or damaged, or they do not belong together.
    """
    if os.path.isdir(path):  # unlike Path.is_dir, no error for a name too long or a folder that cannot be read
        raise ArtefactError(f"{path} is a folder: give the .engine file in it")
    if not os.path.exists(path):
        raise ArtefactError(f"{path} does not exist")
    metadata, record = read_sidecar(path)
    try:
        with open_regular(path) as file:
            plan = file.read()
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read ({error.strerror or error})") from None
    except MemoryError:
        raise BackendError(f"{path} does not fit into this machine's memory: close what else uses it") from None
    if hashlib.sha256(plan).hexdigest() != record.sha256:
        raise ArtefactError(
            f"{path} is not the engine that its sidecar {path.name}.json describes (their SHA-256 differ): it is "
            "damaged, or one of the two was replaced; copy both again, or build the engine again"
        )
    return EngineFile(path, metadata, record, plan)


def check_host_code(file: EngineFile, allowed: bool) -> bool:
    """Whether TensorRT is to run code for the CPU that is inside the engine.

    The sidecar says that there is some; it does not decide that it is run. Only ``allowed``, the caller, does.

    Raises:
        BackendError: there is some, and it is not allowed.
    """
    plugin = file.record.plugin
    if plugin is None or not plugin.serialized:
        return False
    if not allowed:
        raise BackendError(
            f"{file.path} holds a plugin library, which is code for this machine's CPU and runs with your rights: if you "
            "trust who built the engine, allow it with allow_host_code=True (sparse-detr-bench run --allow-host-code); "
            "else take an engine that was built without --self-contained"
        )
    return True


def import_flavour(file: EngineFile) -> Any:
    """The package that runs the engine, of the version that built it.

    Raises:
        BackendError: it is not installed.
        ArtefactError: it is of another version.
    """
    module_name, title, extra = _PACKAGES[file.record.flavour]
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise BackendError(
            f"{file.path} is an engine of {title} {file.record.version}, which cannot be imported ({error}): "
            f"pip install 'sparse-detr-deploy[{extra}]'"
        ) from None
    installed = str(module.__version__)
    if installed.split(".")[:_SAME_PARTS] != file.record.version.split(".")[:_SAME_PARTS]:
        raise ArtefactError(
            f"{file.path} was built with {title} {file.record.version}, but {installed} is installed, and {title} runs "
            f"an engine only with the version that built it: install {file.record.version}, or build the engine again "
            "with sparse-detr-export"
        )
    return module


def check_device(file: EngineFile, device: Device) -> None:
    """Raise :class:`ArtefactError` unless the engine was built for this GPU's compute capability."""
    targets = file.record.targets
    if device.capability not in targets:
        how = f"with --target {device.capability}" if file.record.flavour == "tensorrt-rtx" else "on such a machine"
        raise ArtefactError(
            f"{file.path} was built for {', '.join(targets) or 'no GPU at all'}, but {device.name} (GPU {device.index}) is "
            f"{device.capability}: build it again {how}"
        )


def check_tensors(file: EngineFile, inputs: set[str], outputs: set[str]) -> None:
    """Raise :class:`ArtefactError` unless the engine takes and gives what the metadata says."""
    by_metadata = signature(file.metadata)
    known, promised = set(by_metadata.inputs), set(by_metadata.outputs)
    if inputs != known or promised - outputs:
        raise ArtefactError(
            f"{file.path} takes {', '.join(sorted(inputs))} and gives {', '.join(sorted(outputs))}, but its sidecar speaks "
            f"of {', '.join(sorted(known))} and {', '.join(sorted(promised))}: build the engine again"
        )
