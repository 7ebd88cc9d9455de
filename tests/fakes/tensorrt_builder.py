"""A FAKE of the module ``tensorrt``, whose real builder needs a GPU: it records what our code asks of it.

It proves that our calls are what we mean them to be, not that TensorRT takes them. Names and signatures follow the
Python API of TensorRT 10 and 11 (the real module of TensorRT-RTX, with nearly the same API, is run in test_rtx.py).
"""

from __future__ import annotations

import enum
import types
from collections.abc import Callable
from typing import Any

import onnx

DataType = enum.Enum("DataType", ["FLOAT", "HALF", "INT64"])
LayerType = enum.Enum("LayerType", ["CONVOLUTION", "MATRIX_MULTIPLY", "ELEMENTWISE", "PLUGIN_V3"])
KINDS = {"Conv": LayerType.CONVOLUTION, "MatMul": LayerType.MATRIX_MULTIPLY, "Gemm": LayerType.MATRIX_MULTIPLY}


class Tensor:
    def __init__(self, name: str, dtype: DataType, shape: tuple[int, ...] = ()) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape


class Layer:
    def __init__(self, name: str, kind: LayerType, dtype: DataType) -> None:
        self.name, self.type, self.num_outputs = name, kind, 1
        self._output = Tensor(name, dtype)

    def get_output(self, index: int) -> Tensor:
        return self._output


class FakeTensorRT(types.ModuleType):
    """The module. ``calls`` are what was asked, by name; the other arguments choose how it behaves."""

    def __init__(
        self,
        version: str = "10.16.1",
        takes_plugins: bool = True,
        loads_library: bool = True,
        dtype: DataType = DataType.FLOAT,
        builds: bool = True,
        engine_types: tuple[str, ...] = ("Row major linear FP32",),
    ) -> None:
        super().__init__("tensorrt")
        self.__version__ = version
        self.calls: dict[str, list[Any]] = {}
        self.protos: list[onnx.ModelProto] = []
        self.needs_plugins = False
        self.embedded = False
        fake = self

        def record(name: str, *values: Any) -> None:
            fake.calls.setdefault(name, []).append(values[0] if len(values) == 1 else values)

        class Registry:
            """One of the process, and one each of every builder and runtime, which search that of the process as well."""

            def __init__(self, title: str) -> None:
                self._title, self.all_creators = title, list[Any]()

            def load_library(self, path: str) -> object | None:
                record("load_library", self._title, path)
                if not loads_library:
                    return None
                self.all_creators.append(types.SimpleNamespace(name="MSDeformAttn", plugin_namespace="sparse_detr"))
                return object()

        shared = Registry("of the process")

        class Network:
            def __init__(self, registry: Registry) -> None:
                self.has_plugins = bool(registry.all_creators or shared.all_creators)
                self.layers: list[Layer] = []
                self.inputs: list[Tensor] = []

            @property
            def num_layers(self) -> int:
                return len(self.layers)

            @property
            def num_inputs(self) -> int:
                return len(self.inputs)

            def get_layer(self, index: int) -> Layer:
                return self.layers[index]

            def get_input(self, index: int) -> Tensor:
                return self.inputs[index]

        class OnnxParser:
            num_errors = 0

            def __init__(self, network: Network, logger: Any) -> None:
                self.network = network

            def parse(self, data: bytes) -> bool:
                proto = onnx.load_from_string(data)
                fake.protos.append(proto)
                for value in proto.graph.input:
                    sizes = value.type.tensor_type.shape.dim
                    shape = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in sizes)
                    self.network.inputs.append(Tensor(value.name, dtype, shape))
                for node in proto.graph.node:
                    plugin = node.domain == "sparse_detr" and takes_plugins and self.network.has_plugins
                    fake.needs_plugins |= plugin
                    kind = LayerType.PLUGIN_V3 if plugin else KINDS.get(node.op_type, LayerType.ELEMENTWISE)
                    self.network.layers.append(Layer(node.name, kind, dtype))
                return True

        class Profile:
            def set_shape(self, name: str, *shapes: Any) -> None:
                record("set_shape", name, *shapes)

            def set_shape_input(self, name: str, *values: Any) -> None:
                record("set_shape_input", name, *values)

        class Cache:
            def serialize(self) -> bytes:
                return b"timings"

        class Config:
            progress_monitor: Any = None

            def __setattr__(self, name: str, value: Any) -> None:
                record(name, value)
                fake.embedded |= name == "plugins_to_serialize"
                super().__setattr__(name, value)

            def clear_flag(self, flag: Any) -> None:
                record("clear_flag", flag)

            def set_memory_pool_limit(self, pool: Any, size: int) -> None:
                record("set_memory_pool_limit", pool, size)

            def create_timing_cache(self, data: bytes) -> Cache:
                record("create_timing_cache", data)
                return Cache()

            def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
                return True

            def get_timing_cache(self) -> Cache:
                return Cache()

            def add_optimization_profile(self, profile: Profile) -> int:
                record("add_optimization_profile", profile)
                return 0

        class Builder:
            def __init__(self, logger: Any) -> None:
                self.logger = logger
                self._registry = Registry("of the builder")

            def get_plugin_registry(self) -> Registry:
                return self._registry

            def create_network(self, flags: int) -> Network:
                record("create_network", flags)
                return Network(self._registry)

            def create_builder_config(self) -> Config:
                return Config()

            def create_optimization_profile(self) -> Profile:
                return Profile()

            def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
                config.progress_monitor.phase_start("Building engine", None, 2)
                for step in range(2):
                    if not config.progress_monitor.step_complete("Building engine", step):
                        return None
                config.progress_monitor.phase_finish("Building engine")
                if not builds:
                    self.logger.log(types.SimpleNamespace(name="ERROR"), "no implementation for node X")
                    return None
                return b"an engine"

        class Runtime:
            engine_host_code_allowed = False

            def __init__(self, logger: Any) -> None:
                self.logger = logger

            def deserialize_cuda_engine(self, data: bytes) -> Any:
                record("host_code", self.engine_host_code_allowed)
                inside = fake.embedded and self.engine_host_code_allowed
                if fake.needs_plugins and not inside and not shared.all_creators:
                    self.logger.log(types.SimpleNamespace(name="ERROR"), "could not find plugin MSDeformAttn")
                    return None
                outputs = [{"Name": "x", "Format/Datatype": text} for text in engine_types]
                text = str({"Layers": [{"Outputs": [output]} for output in outputs]}).replace("'", '"')
                inspector = types.SimpleNamespace(get_engine_information=lambda form: text)
                return types.SimpleNamespace(create_engine_inspector=lambda: inspector)

        self.Builder: Callable[..., Any] = Builder
        self.OnnxParser, self.Runtime = OnnxParser, Runtime
        self.ILogger = self.IProgressMonitor = type("Base", (), {"__init__": lambda self: None})
        self.BuilderFlag = types.SimpleNamespace(TF32="TF32")
        self.ProfilingVerbosity = types.SimpleNamespace(DETAILED="detailed")
        self.MemoryPoolType = types.SimpleNamespace(WORKSPACE="workspace")
        self.LayerInformationFormat = types.SimpleNamespace(JSON="json")
        self.get_plugin_registry = lambda: shared
        old = int(version.split(".")[0]) < 11  # 11 renumbered the flags
        self.NetworkDefinitionCreationFlag = types.SimpleNamespace(STRONGLY_TYPED=1 if old else 0)
