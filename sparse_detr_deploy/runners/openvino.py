"""Backend OpenVINO, on the CPU, for artefacts exported with ``--inline-functions``."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from sparse_detr_deploy.errors import ArtefactError, BackendError, InputError
from sparse_detr_deploy.onnx_metadata import read_metadata
from sparse_detr_deploy.preprocessing import Feed
from sparse_detr_deploy.quiet_imports import import_openvino
from sparse_detr_deploy.runners.options import check_num_threads

PRECISIONS = ("f32", "bf16", "f16")


class OpenVINORunner:
    """One compiled model with one inference request for each thread that calls it."""

    def __init__(self, path: str | Path, num_threads: int | None = None, precision: str = "f32") -> None:
        """Compile an exported ``.onnx`` file.

        Args:
            path: the file; its custom ops must be inlined, because OpenVINO reads no model-local functions.
            num_threads: threads of one run; default: OpenVINO's choice.
            precision: ``f32``, or ``bf16`` or ``f16`` where the CPU has it (faster, results differ).
        """
        if precision not in PRECISIONS:
            raise InputError(f"the precision {precision!r} is not one of {', '.join(PRECISIONS)}")
        num_threads = check_num_threads(num_threads)
        self.metadata = read_metadata(path)
        if not self.metadata.inlined:
            raise ArtefactError(
                f"{path} calls custom ops that OpenVINO does not read: export it again with --inline-functions"
            )
        try:
            openvino = import_openvino()
        except ImportError:
            raise BackendError("OpenVINO is not installed: pip install 'sparse-detr-deploy[openvino]'") from None
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        if num_threads is not None:
            options["INFERENCE_NUM_THREADS"] = num_threads
        try:
            core = openvino.Core()
            self._compiled: Any = core.compile_model(core.read_model(str(path)), "CPU", options)
        except Exception as error:
            raise ArtefactError(f"{path}: OpenVINO {openvino.__version__} cannot load it: {error}") from None
        self._names = [output.get_any_name() for output in self._compiled.outputs]
        self._local = threading.local()
        self._description = {
            "backend": "openvino",
            "version": openvino.__version__,
            "providers": ["CPU"],
            "num_threads": num_threads,
            "precision": precision,
            "custom_ops": "inlined",
        }

    def run(self, feed: Feed) -> Feed:
        """Outputs by name. :class:`BackendError` where OpenVINO fails (no memory, inputs that do not fit)."""
        compiled, local = self._compiled, self._local  # another thread may close the runner meanwhile
        if compiled is None:
            raise BackendError("the runner is closed")
        try:
            if not hasattr(local, "request"):
                local.request = compiled.create_infer_request()
            results = local.request.infer(feed, share_inputs=True)
            return {name: results[output].copy() for name, output in zip(self._names, compiled.outputs, strict=True)}
        except Exception as error:
            raise BackendError(f"{self.metadata.name}: OpenVINO cannot run it: {error}") from error

    def describe(self) -> dict[str, Any]:
        """What runs."""
        return dict(self._description)

    def close(self) -> None:
        """Free the compiled model."""
        self._compiled = None
        self._local = threading.local()
