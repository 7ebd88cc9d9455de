"""What takes part in the comparison, and the session that one entry opens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.quiet_imports import import_onnxruntime, import_openvino

Session = Callable[[NDArray[np.float32]], dict[str, NDArray[Any]]]

OURS, ORIGINAL, TRANSFORMERS, FLOOR = "ours", "original", "transformers", "floor"
STOCK, OPENVINO, EAGER = "ONNX Runtime", "OpenVINO", "eager PyTorch"
SAME_OPTIONS = "ONNX Runtime, our session options"
FUSED, BODIES = "ONNX Runtime, fused kernels", "ONNX Runtime, function bodies"
PRODUCTS_ALONE = "ONNX Runtime, convolutions and matrix products alone"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of the comparison.

    Attributes:
        family: whose formulation, such as ``ours`` or ``original``.
        runtime: how it runs, in words.
        rho: keep ratio; ``None`` for a dense encoder.
        kind: what opens it, a key of the table in :func:`open_session`.
        options: arguments of that, as they go through JSON.
        eager: slow, so it takes fewer turns.
    """

    family: str
    runtime: str
    rho: float | None
    kind: str
    options: dict[str, Any]
    eager: bool = False

    @property
    def title(self) -> str:
        """Family, runtime and keep ratio."""
        return f"{self.family}, {self.runtime}, {'dense' if self.rho is None else f'ρ {self.rho:g}'}"

    @property
    def is_ours_fused(self) -> bool:
        """Whether it is what the others are compared with."""
        return (self.family, self.runtime) == (OURS, FUSED)


def open_session(kind: str, options: dict[str, Any], threads: int) -> Session:
    """Open what ``kind`` and ``options`` name, on ``threads`` threads: a function of images [1, 3, H, W] float32.

    Raises:
        BackendError: a runtime or kernel that the entry is about is not there.
    """
    sessions: dict[str, Callable[..., Session]] = {
        "runner": _runner,
        "openvino-runner": _openvino_runner,
        "onnxruntime": _onnxruntime,
        "openvino": _openvino,
        "torch-ours": _torch_ours,
        "torch-original": _torch_original,
        "torch-transformers": _torch_transformers,
    }
    return sessions[kind](threads=threads, **options)


def _runner(path: str, native: bool, threads: int) -> Session:
    from sparse_detr_deploy.runners.onnxruntime import OnnxRuntimeRunner

    runner = OnnxRuntimeRunner(path, num_threads=threads, native=native)
    kernels = runner.describe()["custom_ops"]
    if native and kernels != "native":
        raise BackendError(
            f"the fused CPU kernels are not there ({kernels}): build them by installing the package again"
        )
    return lambda images: runner.run({"images": images})


def _openvino_runner(path: str, threads: int) -> Session:
    from sparse_detr_deploy.runners.openvino import OpenVINORunner

    runner = OpenVINORunner(path, num_threads=threads, precision="f32")
    return lambda images: runner.run({"images": images})


def _onnxruntime(path: str, threads: int, our_options: bool = False) -> Session:
    """Stock ONNX Runtime, with ``our_options`` without the optimisers that our runner leaves out on the CPU.

    Inputs besides ``images`` (those of the floor) get random numbers.
    """
    from sparse_detr_deploy.runners.onnxruntime import SLOW_CPU_OPTIMIZERS

    onnxruntime = import_onnxruntime()

    disabled = SLOW_CPU_OPTIMIZERS if our_options else []
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(path, options, providers, disabled_optimizers=disabled)
    names = [output.name for output in session.get_outputs()]
    generator = np.random.default_rng(0)
    others = {
        value.name: generator.standard_normal(value.shape, dtype=np.float32)
        for value in session.get_inputs()
        if value.name != "images"
    }
    return lambda images: dict(zip(names, session.run(names, {"images": images, **others}), strict=True))


def _openvino(path: str, threads: int) -> Session:
    """A file that is not ours, compiled with the options of our runner."""
    openvino = import_openvino()

    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    core = openvino.Core()
    model = core.read_model(path)
    names = [output.get_any_name() for output in model.outputs]
    compiled = core.compile_model(model, "CPU", options)
    request = compiled.create_infer_request()
    ports = [compiled.output(name) for name in names]

    def run(images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        results = request.infer({"images": images}, share_inputs=True)
        return {name: results[port].copy() for name, port in zip(names, ports, strict=True)}

    return run


def _torch_ours(seed: int, rho: float | None, threads: int) -> Session:
    import torch

    from sparse_detr_deploy.benchmarks.peers.ours import build_ours

    torch.set_num_threads(threads)
    model = build_ours(seed, rho)

    @torch.inference_mode()
    def run(images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        output = model(torch.from_numpy(images))
        return {"pred_logits": output.pred_logits.numpy(), "pred_boxes": output.pred_boxes.numpy()}

    return run


def _torch_original(seed: int, rho: float | None, checkout: str, threads: int) -> Session:
    from sparse_detr_deploy.benchmarks.peers.original import build_original
    from sparse_detr_deploy.benchmarks.peers.ours import build_ours

    return _plain_module(build_original(Path(checkout), build_ours(seed, rho)), threads)


def _torch_transformers(threads: int) -> Session:
    from sparse_detr_deploy.benchmarks.peers.hf_transformers import build_transformers

    return _plain_module(build_transformers(), threads)


def _plain_module(module: Any, threads: int) -> Session:
    """A module that gives (pred_logits, pred_boxes)."""
    import torch

    torch.set_num_threads(threads)

    @torch.inference_mode()
    def run(images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        logits, boxes = module(torch.from_numpy(images))
        return {"pred_logits": logits.numpy(), "pred_boxes": boxes.numpy()}

    return run
