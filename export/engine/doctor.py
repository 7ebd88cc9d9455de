"""What this machine has for exporting, building and running, and how to mend what it has not. Imports no torch."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from sparse_detr_deploy import __version__, native_ops
from sparse_detr_deploy.errors import ArtefactError, BackendError
from sparse_detr_deploy.export.engine.fatbin import architectures
from sparse_detr_deploy.export.engine.flavours import FLAVOURS, load_flavour
from sparse_detr_deploy.export.engine.gpu import Driver, query_driver
from sparse_detr_deploy.export.engine.spec import MAX_TOPK
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.onnx_digest import check_digest
from sparse_detr_deploy.onnx_metadata import read_metadata
from sparse_detr_deploy.plugin_library import CACHED, locate_plugin_library
from sparse_detr_deploy.quiet_imports import import_onnxruntime

GOOD, ABSENT, WRONG = "ok", "absent", "wrong"
DIGEST = "digest"  # subject of the finding


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line: a subject, ``ok``, ``absent`` or ``wrong``, what was found, and how to mend it."""

    subject: str
    state: str
    found: str
    mend: str = ""


def examine(onnx_path: Path | None = None) -> list[Finding]:
    """Look at everything; with the exported file ``onnx_path`` also at its digest and at what TensorRT's limits mean.

    Raises:
        ArtefactError: ``onnx_path`` is not an exported file.
    """
    metadata = None if onnx_path is None else read_metadata(onnx_path)
    driver = query_driver()
    findings = [
        *_driver(driver),
        *(_flavour(name) for name in FLAVOURS),
        *_packages(),
        _onnxruntime(),
        _cpu_kernel(),
        _plugins(driver),
    ]
    if onnx_path is None or metadata is None:
        return findings
    return [*findings, _digest(onnx_path, metadata), *_limits(metadata)]


def _driver(driver: Driver) -> Iterator[Finding]:
    mend = "install NVIDIA's driver (nvidia-smi shows it); TensorRT-RTX engines are built without one"
    if driver.cuda is None:
        yield Finding("NVIDIA driver", ABSENT, driver.problem or "", mend)
        return
    yield Finding("NVIDIA driver", WRONG if driver.problem else GOOD, f"runs CUDA {driver.cuda}")
    for gpu in driver.gpus:
        yield Finding("GPU", GOOD, f"{gpu.name}, {gpu.capability}")
    if driver.problem:
        yield Finding("GPU", ABSENT, driver.problem, mend)


def _flavour(name: str) -> Finding:
    flavour = FLAVOURS[name]
    try:
        module = load_flavour(name)
    except BackendError as error:
        installed = importlib.util.find_spec(flavour.module) is not None
        return Finding(flavour.title, WRONG if installed else ABSENT, _first_part(error), flavour.mend)
    return Finding(flavour.title, GOOD, str(module.__version__))


def _packages() -> Iterator[Finding]:
    for title, package, extra in (
        ("CUDA for Python", "cuda-bindings", "tensorrt"),
        ("PyTorch", "torch", "export"),
        ("ONNX", "onnx", "export"),
        ("OpenVINO", "openvino", "openvino"),
    ):
        try:
            yield Finding(title, GOOD, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(title, ABSENT, "not installed", f"pip install 'sparse-detr-deploy[{extra}]'")


def _onnxruntime() -> Finding:
    mend = "pip install 'sparse-detr-deploy[onnxruntime]' (or [gpu] for CUDA)"
    if importlib.util.find_spec("onnxruntime") is None:
        return Finding("ONNX Runtime", ABSENT, "not installed", mend)
    try:
        onnxruntime = import_onnxruntime()
        providers = ", ".join(name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers())
    except Exception as error:
        return Finding("ONNX Runtime", WRONG, f"does not load ({error})", mend)
    return Finding("ONNX Runtime", GOOD, f"{onnxruntime.__version__}: {providers}")


def _cpu_kernel() -> Finding:
    try:
        path = native_ops.library_path()
    except BackendError as error:
        return Finding("CPU kernel", WRONG, str(error), "unset SPARSE_DETR_ORT_OPS")
    if path is None:
        mend = "install a C++ compiler, then sparse-detr-deploy again from its sources"
        return Finding("CPU kernel", ABSENT, "not built: attention runs as standard ops in ONNX Runtime", mend)
    return Finding("CPU kernel", GOOD, str(path))


def _plugins(driver: Driver) -> Finding:
    title, mend = "plugin library", "sparse-detr-export plugins build"
    try:
        located = locate_plugin_library()
    except BackendError as error:
        return Finding(title, WRONG, _first_part(error), "unset SPARSE_DETR_PLUGINS, or name the library by it")
    if located is None:
        return Finding(title, ABSENT, "neither named, nor beside the package, nor in the cache", mend)
    path, place = located
    try:
        built_for = architectures(path)
    except OSError as error:
        return Finding(title, WRONG, f"{path} cannot be read ({error.strerror})", mend)
    version = f"version {__version__}" if place == CACHED else "version not known"
    found = f"{path} ({place}), {version}, {', '.join(built_for) or 'no CUDA code'}"
    if not built_for:
        return Finding(title, WRONG, found, f"{mend} --force")
    for gpu in driver.gpus:
        if not runs_on(gpu.capability, built_for):
            number = gpu.capability.removeprefix("sm")
            return Finding(title, WRONG, f"{found}: none for {gpu.capability}", f"{mend} --architectures {number}")
    return Finding(title, GOOD, found)


def runs_on(capability: str, built_for: tuple[str, ...]) -> bool:
    """Whether a GPU runs the code: machine code of its generation, not newer than it, or PTX not newer than it."""
    number = int(capability.removeprefix("sm"))
    for entry in built_for:
        version = int(entry.removeprefix("sm").removeprefix("ptx"))
        same_generation = version // 10 == number // 10
        if version <= number and (entry.startswith("ptx") or same_generation):
            return True
    return False


def _digest(path: Path, metadata: Metadata) -> Finding:
    """Whether the file is as it was exported."""
    if not metadata.digest:
        return Finding(DIGEST, ABSENT, "none: exported by an older version", "export it again")
    try:
        check_digest(path)
    except ArtefactError:
        return Finding(DIGEST, WRONG, "damaged or changed after its export", "copy it again, or export it again")
    return Finding(DIGEST, GOOD, f"as it was exported ({metadata.digest[:12]}…)")


def _limits(metadata: Metadata) -> Iterator[Finding]:
    """TopK of TensorRT against the sizes of one file."""
    kept = metadata.token_count if metadata.dynamic_rho else metadata.num_keep()
    if kept is not None:
        rounds = -(-kept // MAX_TOPK)
        how = "one TopK" if rounds == 1 else f"{rounds} rounds of TopK without the plugin"
        upto = "up to " if metadata.dynamic_rho else ""
        yield Finding("tokens kept", GOOD, f"{upto}{kept} of {metadata.token_count}; limit {MAX_TOPK}: {how}")
    sizes = []
    if metadata.model.get("two_stage"):
        sizes.append(("queries", metadata.num_queries, "no engine can be built of this model"))
    if metadata.outputs == "detections":
        sizes.append(("detections", metadata.num_detections, "export with fewer --num-detections, or --outputs raw"))
    for name, count, mend in sizes:
        fits = count <= MAX_TOPK
        yield Finding(name, GOOD if fits else WRONG, f"{count}; limit {MAX_TOPK}", "" if fits else mend)


def _first_part(error: Exception) -> str:
    """A message without its mend, which has a column of its own."""
    return str(error).split(": ")[0]
