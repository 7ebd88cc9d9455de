"""Backend ONNX Runtime, on the CPU or on CUDA."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparse_detr_deploy import native_ops
from sparse_detr_deploy.errors import ArtefactError, BackendError
from sparse_detr_deploy.onnx_external_data import check_self_contained
from sparse_detr_deploy.onnx_metadata import read_metadata
from sparse_detr_deploy.preprocessing import Feed
from sparse_detr_deploy.quiet_imports import import_onnxruntime
from sparse_detr_deploy.runners.options import check_num_threads, provider_names
from sparse_detr_deploy.signature import Tensor, check_feed, check_graph, check_result

_log = logging.getLogger(__name__)
_TYPES = {"float": "float32", "double": "float64"}  # the others are called as NumPy's are
# its fused kernel is several times slower on the CPU than the addition and the layer norm apart (ONNX Runtime 1.32)
SLOW_CPU_OPTIMIZERS = ["SkipLayerNormFusion"]


class OnnxRuntimeRunner:
    """One session. ``run`` may be called from several threads at once."""

    def __init__(
        self,
        path: str | Path,
        providers: str | Sequence[str] = ("cpu",),
        num_threads: int | None = None,
        native: bool = True,
    ) -> None:
        """Open an exported ``.onnx`` file.

        Args:
            path: the file.
            providers: ``cpu``, ``cuda`` or ONNX Runtime's names, in order of preference; all must be there.
            num_threads: threads of one run; default: ONNX Runtime's choice, one a core.
            native: use this toolkit's fused CPU kernels where they are built.
        """
        names, num_threads = provider_names(providers), check_num_threads(num_threads)
        self.metadata = read_metadata(path)
        check_self_contained(path)
        try:
            onnxruntime = import_onnxruntime()
        except ImportError:
            raise BackendError(
                "ONNX Runtime is not installed: pip install 'sparse-detr-deploy[onnxruntime]' (or [gpu] for CUDA)"
            ) from None
        available = onnxruntime.get_available_providers()
        absent = [name for name in names if name not in available]
        if absent:
            raise BackendError(
                f"this ONNX Runtime has no {', '.join(absent)} (it has {', '.join(available)}): "
                "CUDA needs pip install 'sparse-detr-deploy[gpu]'"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = num_threads or 0
        on_cpu = names == ["CPUExecutionProvider"]
        self._kernels = self._register(options) if native and on_cpu else "function bodies"
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=names, disabled_optimizers=SLOW_CPU_OPTIMIZERS if on_cpu else None
            )
        except Exception as error:
            raise ArtefactError(f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it: {error}") from None
        started = self._session.get_providers()
        if names[0] not in started:
            raise BackendError(
                f"{names[0]} did not start (ONNX Runtime fell back to {', '.join(started)}): see its log"
            )
        self._path = Path(path)
        self._outputs = [output.name for output in self._session.get_outputs()]
        check_graph(
            self._path,
            self.metadata,
            {port.name: _tensor(port) for port in self._session.get_inputs()},
            {port.name: _tensor(port) for port in self._session.get_outputs()},
        )
        self._description = {
            "backend": "onnxruntime",
            "version": onnxruntime.__version__,
            "providers": names,
            "num_threads": num_threads,
            "custom_ops": "inlined" if self.metadata.inlined else self._kernels,
        }

    def _register(self, options: Any) -> str:
        if self.metadata.precision != "float32":
            _log.info(
                "the fused CPU kernels take float32; in %s attention runs as standard ops", self.metadata.precision
            )
            return "inlined" if self.metadata.inlined else "function bodies"
        library = None if self.metadata.inlined else native_ops.library_path()
        if library is None:
            if not self.metadata.inlined:
                _log.warning("the fused CPU kernels are not built; attention runs as standard ops, which is slower")
            return "function bodies"
        try:
            options.register_custom_ops_library(str(library))
        except Exception as error:
            if native_ops.is_named():
                raise BackendError(
                    f"{native_ops.ENVIRONMENT} names {library}, which does not load ({str(error).strip()}): name another "
                    "library, or unset the variable for the one that is built with the package"
                ) from None
            _log.warning("the fused CPU kernels in %s do not load (%s); attention runs as standard ops", library, error)
            return "function bodies"
        return "native"

    def run(self, feed: Feed) -> Feed:
        """Outputs by name.

        Raises:
            InputError: the feed is not what the metadata says.
            BackendError: ONNX Runtime fails (no memory), or the runner is closed.
            ArtefactError: what comes out is not what the metadata says.
        """
        session = self._session  # another thread may close the runner meanwhile
        if session is None:
            raise BackendError("the runner is closed")
        batch = check_feed(feed, self.metadata)
        try:
            outputs = dict(zip(self._outputs, session.run(self._outputs, feed), strict=True))
        except Exception as error:
            raise BackendError(f"{self.metadata.name}: ONNX Runtime cannot run it: {error}") from error
        check_result(self._path, outputs, self.metadata, batch)
        return outputs

    def describe(self) -> dict[str, Any]:
        """What runs."""
        return dict(self._description)

    def close(self) -> None:
        """Free the session."""
        self._session = None


def _tensor(port: Any) -> Tensor:
    """What a session says of an input or output."""
    kind = port.type.removeprefix("tensor(").removesuffix(")")
    sizes = tuple(size if isinstance(size, int) else str(size or "?") for size in port.shape)
    return Tensor(_TYPES.get(kind, kind), sizes or None)  # an unknown rank is given as no sizes
