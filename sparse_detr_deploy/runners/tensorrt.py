"""Backend TensorRT and TensorRT-RTX: engines on NVIDIA GPUs."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from sparse_detr_deploy.errors import BackendError, InputError
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.preprocessing import Feed
from sparse_detr_deploy.runners.device_arrays import DeviceArray
from sparse_detr_deploy.runners.engine import LoadedEngine
from sparse_detr_deploy.runners.execution import Execution, StageTimes


class TensorRTRunner:
    """An engine with one stream, one execution context and buffers of its own.

    ``run`` may be called from several threads; they take turns. :meth:`clone` gives a runner that works beside this one.
    Only load engines that you trust: an engine is code for the GPU, and one with its plugins inside is code for the CPU.
    """

    def __init__(
        self,
        path: str | Path,
        device: int = 0,
        cuda_graphs: bool = True,
        plugin_library: str | Path | None = None,
        max_graphs: int = 8,
        allow_host_code: bool = False,
    ) -> None:
        """Load an ``.engine`` file that ``sparse-detr-export`` built; its sidecar says which TensorRT runs it.

        Args:
            path: the engine; the sidecar ``<engine>.json`` lies beside it.
            device: number of the GPU, as CUDA counts them.
            cuda_graphs: capture what comes again as a CUDA graph.
            plugin_library: ``libsparse_detr_plugins.so``; default: where the toolkit finds it.
            max_graphs: how many graphs are kept; each is of one batch size, number of kept tokens and input address.
            allow_host_code: run the plugin library inside an engine that was built with ``--self-contained``. It is
                code for this machine's CPU, with the rights of this process, so say so only of engines that you trust.
                Of other engines nothing inside is ever run on the CPU.

        Raises:
            ArtefactError: the engine or its sidecar is missing, damaged, or of another version or GPU.
            BackendError: TensorRT, the driver, the GPU or the plugin library is missing, memory does not suffice, or the
                engine holds code for the CPU and ``allow_host_code`` is not given.
        """
        if type(max_graphs) is not int or max_graphs < 1:
            raise InputError(
                f"max_graphs is {max_graphs!r}, but at least 1 is needed: cuda_graphs=False leaves them off"
            )
        if type(allow_host_code) is not bool:
            raise InputError(f"allow_host_code is {allow_host_code!r}, but True or False is needed")
        if not isinstance(plugin_library, (str, os.PathLike, type(None))):
            raise InputError(f"plugin_library is {plugin_library!r}, but the path of a library or None is needed")
        self._start(LoadedEngine(Path(path), device, plugin_library, allow_host_code), cuda_graphs, max_graphs)

    def _start(self, engine: LoadedEngine, cuda_graphs: bool, max_graphs: int) -> None:
        """Take over one use of ``engine``."""
        self._engine, self._options = engine, (cuda_graphs, max_graphs)
        self.metadata: Metadata = engine.metadata
        self._lock = threading.Lock()
        try:
            with engine.device.current():
                self._execution = Execution(engine, cuda_graphs, max_graphs)
        except BaseException:
            engine.release()
            raise
        # also where a runner is dropped without close()
        self._process = os.getpid()
        self._finalizer = weakref.finalize(self, _free, self._execution, engine, self._process)

    def clone(self) -> TensorRTRunner:
        """A runner on the same engine with a stream, context and buffers of its own, for another thread."""
        with self._lock:
            self._check_open()
            engine = self._engine.acquire()
        other = TensorRTRunner.__new__(TensorRTRunner)
        other._start(engine, *self._options)
        return other

    def run(self, feed: Mapping[str, Any]) -> Feed:
        """Outputs by name, as NumPy arrays.

        Args:
            feed: inputs by name: NumPy arrays, or arrays on the engine's GPU by DLPack or ``__cuda_array_interface__``
                (torch, cupy, pycuda in the primary context), contiguous and of the engine's type; those are read where
                they lie, after what their producer has enqueued. Shape tensors (``num_keep``) are NumPy arrays.

        Raises:
            InputError: an input is missing or not of the engine's profile; nothing has been enqueued.
            BackendError: TensorRT or CUDA failed, or the runner is closed.
        """
        with self._lock:
            self._check_open()
            with self._engine.device.current():
                return self._execution.run(feed)

    def run_device(self, feed: Mapping[str, Any], stream: int | None = None) -> dict[str, DeviceArray]:
        """As :meth:`run`, but the outputs stay on the GPU.

        Args:
            feed: as in :meth:`run`; arrays on the GPU must stay as they are until the run is done.
            stream: handle of the CUDA stream that will use the outputs, such as
                ``torch.cuda.current_stream().cuda_stream`` (0 is the default stream): it is made to wait for them, and
                the call returns at once; the next run waits for it, so it must still exist then. Default: the call
                waits until the outputs are there.

        Returns:
            Outputs by name; their memory is used again by the next run of this runner.
        """
        with self._lock:
            self._check_open()
            with self._engine.device.current():
                return self._execution.run_device(feed, stream)

    def record_stages(self) -> None:
        """Time the stages of every run from now on, for :meth:`stage_times`."""
        with self._lock:
            self._check_open()
            with self._engine.device.current():
                self._execution.record_stages()

    def stage_times(self) -> StageTimes:
        """Times of the last run, after :meth:`record_stages`."""
        with self._lock:
            self._check_open()
            with self._engine.device.current():
                return self._execution.stage_times()

    def device_memory_mib(self) -> float:
        """By how much the GPU's free memory fell since before the engine was loaded; other processes count too."""
        self._check_open()
        return self._engine.memory_mib()

    @property
    def pci_bus_id(self) -> str:
        """Of the GPU, which NVML finds it by."""
        return str(self._engine.device.pci_bus_id)

    def describe(self) -> dict[str, Any]:
        """What runs."""
        record, device = self._engine.record, self._engine.device
        return {
            "backend": record.flavour,
            "version": self._engine.trt.__version__,
            "providers": [f"GPU {device.index}"],
            "device": device.name,
            "capability": device.capability,
            "precision": record.precision,
            "attention": record.attention,
            "selection": record.selection,
            "plugins": self._engine.plugins,
            "cuda_graphs": self._describe_graphs(),
        }

    def _describe_graphs(self) -> str:
        if not self._options[0]:
            return "off"
        if self._engine.record.flavour == "tensorrt-rtx":
            return "by TensorRT-RTX"
        failure = self._execution.graphs.failure
        return "on" if failure is None else f"failed: {failure}"

    def _check_open(self) -> None:
        if os.getpid() != self._process:
            raise BackendError(
                "the runner was made before this process was forked, which CUDA does not survive: load the engine in the "
                "process that runs it, or start that with multiprocessing's method 'spawn'"
            )
        if not self._finalizer.alive:
            raise BackendError("the runner is closed")

    def close(self) -> None:
        """Free what is this runner's; the engine goes with the last of its clones. May be called again."""
        with self._lock:
            self._finalizer()

    def __enter__(self) -> TensorRTRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


_of_the_parent: list[tuple[Execution, LoadedEngine]] = []  # a forked process must not even destroy them


def _free(execution: Execution, engine: LoadedEngine, process: int) -> None:
    if os.getpid() != process:
        _of_the_parent.append((execution, engine))
        return
    try:
        with engine.device.current():
            execution.close()
    finally:
        engine.release()
