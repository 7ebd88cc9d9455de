"""THE fake of the modules ``tensorrt`` and ``tensorrt_rtx``, for building and for running.

It proves that our calls are what we mean them to be and keep TensorRT's rules, nothing of its results: an engine is an
ONNX file that ONNX Runtime runs. Names, parameters and enumerations are held against the real packages by
tests/fakes/test_interfaces.py, what a profile is refused for by tests/fakes/test_profiles.py.
"""

from __future__ import annotations

import types
from typing import Any

import onnx

from tests.fakes import tensorrt_types
from tests.fakes.cuda_driver import FakeDriver
from tests.fakes.gpu import FakeGpu
from tests.fakes.tensorrt_builder import FakeBuilder
from tests.fakes.tensorrt_network import FakeNetwork, FakeParser, FakeProfile
from tests.fakes.tensorrt_runtime import FakeRuntime
from tests.fakes.tensorrt_types import CudaGraphStrategy, DataType, ILogger, Registry

_CLASSES = (
    tensorrt_types.ILogger,
    tensorrt_types.IProgressMonitor,
    tensorrt_types.DataType,
    tensorrt_types.TensorLocation,
    tensorrt_types.TensorIOMode,
    tensorrt_types.ExecutionContextAllocationStrategy,
    tensorrt_types.LayerType,
    tensorrt_types.BuilderFlag,
    tensorrt_types.ProfilingVerbosity,
    tensorrt_types.MemoryPoolType,
    tensorrt_types.LayerInformationFormat,
)
_RTX_CLASSES = (tensorrt_types.CudaGraphStrategy, tensorrt_types.ComputeCapability)


class FakeTensorRT(types.ModuleType):
    """The module. What is neither a class nor a function of the real one is for tests.

    Attributes:
        calls: what the builder was asked, by name.
        protos: what was parsed.
        profiles: what was built with.
        loads: registry and path of the plugin libraries that were loaded.
    """

    def __init__(
        self,
        driver: FakeDriver | None = None,
        flavour: str = "tensorrt",
        version: str = "10.16.1.11",
        takes_plugins: bool = True,
        layer_type: DataType = DataType.FLOAT,
        builds: bool = True,
        engine_types: tuple[str, ...] = ("Row major linear FP32",),
    ) -> None:
        super().__init__(flavour.replace("-", "_"))
        self.__version__ = version
        self.rtx = flavour == "tensorrt-rtx"
        self.driver = driver or FakeDriver(FakeGpu())
        self.takes_plugins, self.builds, self.engine_types = takes_plugins and not self.rtx, builds, engine_types
        self.layer_type = layer_type
        self.loads: list[tuple[str, str]] = []
        self.registry = Registry(self.loads)
        self.calls: dict[str, list[Any]] = {}
        self.protos: list[onnx.ModelProto] = []
        self.profiles: list[FakeProfile] = []
        self.contexts_left: int | None = None
        self.capturable = True
        self.host_code: list[bool] = []
        self.strategies: list[CudaGraphStrategy] = []
        self.enqueue_works = True
        self.refuses_shapes = False  # after it has taken them, as where a later input does not fit
        for kind in (*_CLASSES, *(_RTX_CLASSES if self.rtx else ())):
            setattr(self, kind.__name__, kind)
        old = not self.rtx and int(version.split(".")[0]) < 11  # 11 renumbered the flags
        self.NetworkDefinitionCreationFlag = tensorrt_types.CreationFlag10 if old else tensorrt_types.CreationFlag11

    @property
    def gpu(self) -> FakeGpu:
        return self.driver.gpu

    def record(self, name: str, *values: Any) -> None:
        """Note a call."""
        self.calls.setdefault(name, []).append(values[0] if len(values) == 1 else values)

    def get_plugin_registry(self) -> Registry:
        return self.registry

    def Builder(self, logger: ILogger) -> FakeBuilder:
        return FakeBuilder(self, _checked(logger))

    def OnnxParser(self, network: FakeNetwork, logger: ILogger) -> FakeParser:
        assert isinstance(network, FakeNetwork)
        return FakeParser(network, _checked(logger))

    def Runtime(self, logger: ILogger) -> FakeRuntime:
        return FakeRuntime(self, _checked(logger))


def _checked(logger: ILogger) -> ILogger:
    assert isinstance(logger, ILogger)
    assert logger.base_initialised, "ILogger.__init__ was not called"
    return logger
