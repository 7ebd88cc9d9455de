"""The parts of the fake TensorRT that compute nothing: enumerations, base classes, plugin registry, runtime configuration."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

NAMESPACE = "sparse_detr"


class DataType(enum.IntEnum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    BF16 = 7
    INT64 = 8


class TensorLocation(enum.IntEnum):
    DEVICE = 0
    HOST = 1


class TensorIOMode(enum.IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class ExecutionContextAllocationStrategy(enum.IntEnum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class CudaGraphStrategy(enum.IntEnum):
    """Of TensorRT-RTX."""

    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class ComputeCapability(enum.IntEnum):
    """Of TensorRT-RTX."""

    SM75 = 75
    SM80 = 80
    SM86 = 86
    SM89 = 89
    SM120 = 120
    SM121 = 121


class LayerType(enum.IntEnum):
    CONVOLUTION = 0
    ELEMENTWISE = 9
    MATRIX_MULTIPLY = 17
    PLUGIN_V3 = 46


class BuilderFlag(enum.IntEnum):
    TF32 = 6


class ProfilingVerbosity(enum.IntEnum):
    LAYER_NAMES_ONLY = 0
    NONE = 1
    DETAILED = 2


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


class LayerInformationFormat(enum.IntEnum):
    ONELINE = 0
    JSON = 1


class CreationFlag10(enum.IntEnum):
    """``NetworkDefinitionCreationFlag`` of TensorRT 10."""

    STRONGLY_TYPED = 1


class CreationFlag11(enum.IntEnum):
    """The same of TensorRT 11 and TensorRT-RTX."""

    STRONGLY_TYPED = 0


class ILogger:
    class Severity(enum.IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    base_initialised = False

    def __init__(self) -> None:
        self.base_initialised = True

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    base_initialised = False

    def __init__(self) -> None:
        self.base_initialised = True

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError


class Creator:
    plugin_version, plugin_namespace = "1", NAMESPACE

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        return self._name


class Registry:
    """Loads files that begin with ``PLUGINS``. A builder and a runtime have one each, and search the process's as well."""

    def __init__(self, loads: list[tuple[str, str]], title: str = "of the process") -> None:
        """``loads`` is filled with title and path of what is loaded."""
        self._loads, self._title = loads, title
        self._creators: list[Creator] = []

    @property
    def all_creators(self) -> list[Creator]:
        return self._creators

    def load_library(self, plugin_path: str) -> Any:
        if self._creators or not Path(plugin_path).read_bytes().startswith(b"PLUGINS"):
            return None
        self._loads.append((self._title, plugin_path))
        self._creators = [Creator("MSDeformAttn"), Creator("SelectTokens")]
        return object()


class RuntimeConfig:
    """Of TensorRT-RTX."""

    def __init__(self) -> None:
        self._cuda_graph_strategy = CudaGraphStrategy.DISABLED
        self._strategy = ExecutionContextAllocationStrategy.STATIC

    @property
    def cuda_graph_strategy(self) -> CudaGraphStrategy:
        return self._cuda_graph_strategy

    @cuda_graph_strategy.setter
    def cuda_graph_strategy(self, strategy: CudaGraphStrategy) -> None:
        assert isinstance(strategy, CudaGraphStrategy)
        self._cuda_graph_strategy = strategy

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        assert isinstance(strategy, ExecutionContextAllocationStrategy)
        self._strategy = strategy
