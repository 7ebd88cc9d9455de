"""A deserialised engine on a device, shared by the runners that are clones of each other."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from sparse_detr_deploy.cuda import Device, DeviceBuffer
from sparse_detr_deploy.errors import ArtefactError, BackendError
from sparse_detr_deploy.runners.engine_checks import (
    check_device,
    check_host_code,
    check_tensors,
    import_flavour,
    read_engine,
)
from sparse_detr_deploy.runners.engine_plugins import prepare_plugins

_log = logging.getLogger(__name__)
_TYPES = {"FLOAT": "f4", "HALF": "f2", "INT32": "i4", "INT64": "i8", "UINT8": "u1", "INT8": "i1", "BOOL": "?"}
_LEVELS = {"INTERNAL_ERROR": logging.ERROR, "ERROR": logging.ERROR, "WARNING": logging.WARNING, "INFO": logging.DEBUG}
_loggers: dict[str, Any] = {}  # TensorRT keeps the first logger of a process


@dataclasses.dataclass(frozen=True)
class Port:
    """An input or output. ``smallest`` and ``largest`` are the profile's shapes, of inputs only.

    ``on_host``: a shape tensor, read from the host's memory.
    """

    name: str
    dtype: np.dtype[Any]
    on_host: bool
    smallest: tuple[int, ...] = ()
    largest: tuple[int, ...] = ()

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether the profile takes an input of ``shape``."""
        return len(shape) == len(self.largest) and all(
            low <= size <= high for low, size, high in zip(self.smallest, shape, self.largest, strict=True)
        )


class LoadedEngine:
    """Counts its users: the last :meth:`release` frees it."""

    def __init__(
        self, path: Path, device: int, plugin_library: str | Path | None, allow_host_code: bool = False
    ) -> None:
        """Check the file, then deserialise it.

        Args:
            path: the engine.
            device: number of the GPU.
            plugin_library: to load where the engine needs one and does not hold it; default: where the toolkit finds it.
            allow_host_code: the caller trusts the code for the CPU inside the engine.

        Raises:
            ArtefactError: the engine or its sidecar is missing, damaged, or of another version or GPU.
            BackendError: TensorRT, the driver, the GPU or the plugin library is missing, memory does not suffice, or the
                engine holds code for the CPU that is not allowed.
        """
        file = read_engine(path)
        self._runs_host_code = check_host_code(file, allow_host_code)
        self.path, self.metadata, self.record = path, file.metadata, file.record
        self.trt = import_flavour(file)
        self._users = 1
        self._lock = threading.Lock()
        self._runtime: Any = None
        self._engine: Any = None
        self._configs: dict[bool, Any] = {}
        self.device = Device(device)
        try:
            check_device(file, self.device)
            with self.device.current():
                self.plugins = prepare_plugins(self.trt, file, plugin_library)
                self._engine = self._deserialise(file.plan)
                self.inputs, self.outputs = self._ports()
                check_tensors(file, {port.name for port in self.inputs}, {port.name for port in self.outputs})
                self._activation_size = max(1, int(self._engine.device_memory_size_v2))
        except BaseException:
            self._free()
            raise

    def _deserialise(self, plan: bytes) -> Any:
        self.logger = _logger(self.trt)
        self._free_before = self.device.free_memory()
        self._runtime = self.trt.Runtime(self.logger)
        if self._runs_host_code:
            self._runtime.engine_host_code_allowed = True
        self.logger.take()
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is not None:
            return engine
        said = self.logger.take()
        if "memory" in said.lower():
            raise BackendError(
                f"{self.path}: the engine does not fit into the memory of {self.device.name} ({said}); close what else "
                "uses it, or build the engine for smaller batches or fp16"
            )
        raise ArtefactError(
            f"{self.path}: {self.record.flavour} {self.trt.__version__} cannot deserialise it ({said}): build it again "
            "on this machine with sparse-detr-export"
        )

    def _ports(self) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
        engine, trt = self._engine, self.trt
        inputs, outputs = [], []
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            kind = engine.get_tensor_dtype(name).name
            if kind not in _TYPES:
                raise ArtefactError(f"{self.path}: its tensor {name} is {kind}, which this version cannot feed or read")
            dtype = np.dtype(_TYPES[kind])
            on_host = engine.get_tensor_location(name) == trt.TensorLocation.HOST
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                inputs.append(Port(name, dtype, on_host, *self._limits(name)))
            else:
                outputs.append(Port(name, dtype, on_host))
        return tuple(inputs), tuple(outputs)

    def _limits(self, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Smallest and largest shape of an input; the profile need not speak of one that is fixed."""
        fixed = tuple(self._engine.get_tensor_shape(name))
        if min(fixed, default=0) >= 0:
            return fixed, fixed
        smallest, _, largest = (tuple(shape) for shape in self._engine.get_tensor_profile_shape(name, 0))
        return smallest, largest

    def new_activations(self) -> DeviceBuffer:
        """Memory for what lies between the layers; the contexts of one stream share it."""
        return DeviceBuffer(self.device, self._activation_size)

    def new_context(self, activations: DeviceBuffer, cuda_graphs: bool) -> Any:
        """An execution context. Raises :class:`BackendError` where TensorRT makes none.

        TensorRT-RTX captures CUDA graphs by itself, and knows when its kernels are compiled for a shape;
        ``cuda_graphs`` allows it to.
        """
        strategy = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        with self._lock:
            self.logger.take()
            if self.record.flavour == "tensorrt-rtx":
                context = self._engine.create_execution_context(self._configured(strategy, cuda_graphs))
            else:
                context = self._engine.create_execution_context(strategy)
            if context is None:
                raise BackendError(
                    f"{self.path}: TensorRT makes no execution context on {self.device.name} ({self.logger.take()}); if "
                    "memory does not suffice, close what else uses it, or build the engine for smaller batches or fp16"
                )
        context.set_device_memory(activations.address, activations.size)
        return context

    def _configured(self, strategy: Any, cuda_graphs: bool) -> Any:
        """A configuration for TensorRT-RTX, which must live as long as the contexts that are made with it."""
        if cuda_graphs not in self._configs:
            how = self.trt.CudaGraphStrategy
            config = self._configs[cuda_graphs] = self._engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(strategy)
            config.cuda_graph_strategy = how.WHOLE_GRAPH_CAPTURE if cuda_graphs else how.DISABLED
        return self._configs[cuda_graphs]

    def memory_mib(self) -> float:
        """By how much the device's free memory fell since before the engine was loaded. Other processes count too."""
        with self.device.current():
            return (self._free_before - self.device.free_memory()) / 2**20

    def acquire(self) -> LoadedEngine:
        """One user more."""
        with self._lock:
            if self._users == 0:
                raise BackendError("the engine is closed: load it again")
            self._users += 1
        return self

    def release(self) -> None:
        """One user less."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self._free()

    def _free(self) -> None:
        try:
            with self.device.current():
                self._configs.clear()
                self._engine = None  # before the runtime that made it
                self._runtime = None
        finally:
            self.device.close()


def _logger(trt: Any) -> Any:
    """TensorRT's messages go to ``logging``; the last errors are kept for the message of an exception."""
    if trt.__name__ in _loggers:
        return _loggers[trt.__name__]

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: deque[str] = deque(maxlen=3)

        def log(self, severity: Any, msg: str) -> None:
            level = _LEVELS.get(severity.name, logging.NOTSET)
            if level == logging.ERROR:
                self._errors.append(msg.strip())
            if level:
                # an error comes back as an exception with this text: it is not worth two lines
                _log.log(logging.DEBUG if level == logging.ERROR else level, "%s", msg.strip())

        def take(self) -> str:
            """The errors since the last call."""
            said = "; ".join(self._errors) or "it gave no reason"
            self._errors.clear()
            return said

    return _loggers.setdefault(trt.__name__, Logger())
