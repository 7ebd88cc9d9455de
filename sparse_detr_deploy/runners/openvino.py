"""Backend OpenVINO, on the CPU, for artefacts exported with ``--inline-functions``."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from sparse_detr_deploy.errors import ArtefactError, BackendError, InputError
from sparse_detr_deploy.onnx_external_data import check_self_contained
from sparse_detr_deploy.onnx_metadata import read_metadata
from sparse_detr_deploy.preprocessing import Feed
from sparse_detr_deploy.quiet_imports import import_openvino
from sparse_detr_deploy.runners.options import check_num_threads
from sparse_detr_deploy.short_repr import short_repr
from sparse_detr_deploy.signature import Tensor, check_feed, check_graph, check_result

_TYPES = {"f32": "float32", "f64": "float64", "f16": "float16", "i32": "int32", "i64": "int64", "u8": "uint8"}
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
        if not isinstance(precision, str) or precision not in PRECISIONS:
            raise InputError(f"the precision {short_repr(precision)} is not one of {', '.join(PRECISIONS)}")
        num_threads = check_num_threads(num_threads)
        self.metadata = read_metadata(path)
        check_self_contained(path)
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
        self._path = Path(path)
        inputs, outputs = (
            [_tensor(port) for port in ports] for ports in (self._compiled.inputs, self._compiled.outputs)
        )
        check_graph(self._path, self.metadata, dict(inputs), dict(outputs))
        self._names = [name for name, _ in outputs]
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
        """Outputs by name.

        Raises:
            InputError: the feed is not what the metadata says.
            BackendError: OpenVINO fails (no memory), or the runner is closed.
            ArtefactError: what comes out is not what the metadata says.
        """
        compiled, local = self._compiled, self._local  # another thread may close the runner meanwhile
        if compiled is None:
            raise BackendError("the runner is closed")
        batch = check_feed(feed, self.metadata)
        try:
            if not hasattr(local, "request"):
                local.request = compiled.create_infer_request()
            results = local.request.infer(feed, share_inputs=True)
            outputs = {name: results[output].copy() for name, output in zip(self._names, compiled.outputs, strict=True)}
        except Exception as error:
            raise BackendError(f"{self.metadata.name}: OpenVINO cannot run it: {error}") from error
        check_result(self._path, outputs, self.metadata, batch)
        return outputs

    def describe(self) -> dict[str, Any]:
        """What runs."""
        return dict(self._description)

    def close(self) -> None:
        """Free the compiled model."""
        self._compiled = None
        self._local = threading.local()


def _tensor(port: Any) -> tuple[str, Tensor]:
    """Name and description of an input or output of a compiled model; without a name it is called ``?``."""
    shape = port.get_partial_shape()
    sizes = None
    if shape.rank.is_static:
        sizes = tuple(size.get_length() if size.is_static else "?" for size in shape)
    kind = port.get_element_type().get_type_name()
    return min(port.get_names(), default="?"), Tensor(_TYPES.get(kind, kind), sizes)
