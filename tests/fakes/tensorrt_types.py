"""The parts of the fake TensorRT that hold no engine: enumerations, logger, plugin registry, runtime configuration."""

from __future__ import annotations

import enum
from pathlib import Path


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    BF16 = 7
    INT64 = 8


class TensorLocation(enum.Enum):
    DEVICE = 0
    HOST = 1


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class CudaGraphStrategy(enum.Enum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    def __init__(self) -> None:
        self.base_initialised = True


class Creator:
    def __init__(self, name: str) -> None:
        self.name, self.plugin_version, self.plugin_namespace = name, "1", "sparse_detr"


class Registry:
    """Loads files that begin with ``PLUGINS``."""

    def __init__(self) -> None:
        self.all_creators: list[Creator] = []
        self.loaded: list[str] = []

    def load_library(self, plugin_path: str) -> object | None:
        if self.all_creators or not Path(plugin_path).read_bytes().startswith(b"PLUGINS"):
            return None
        self.loaded.append(plugin_path)
        self.all_creators = [Creator("MSDeformAttn"), Creator("SelectTokens")]
        return object()


class RuntimeConfig:
    """Of TensorRT-RTX."""

    def __init__(self) -> None:
        self.cuda_graph_strategy = CudaGraphStrategy.DISABLED
        self.strategy = ExecutionContextAllocationStrategy.STATIC

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        self.strategy = strategy
