"""A fake of the modules ``tensorrt`` and ``tensorrt_rtx``: an engine is an ONNX file that ONNX Runtime runs."""

from __future__ import annotations

import functools
import weakref
from typing import Any

import numpy as np

from sparse_detr_deploy import native_ops
from sparse_detr_deploy.metadata import METADATA_KEY, Metadata
from tests.fakes.cuda_driver import FakeDriver
from tests.fakes.engine_files import MAGIC
from tests.fakes.gpu import COMPUTE_MS, FakeGpu, as_array
from tests.fakes.tensorrt_types import (
    CudaGraphStrategy,
    DataType,
    ExecutionContextAllocationStrategy,
    ILogger,
    Registry,
    RuntimeConfig,
    TensorIOMode,
    TensorLocation,
)

ENGINE_BYTES = 1 << 20  # what a deserialised engine takes on the fake GPU
ACTIVATION_BYTES = 1 << 16
ALIGNMENT = 256
_TYPES = {"tensor(float)": "FLOAT", "tensor(int64)": "INT64", "tensor(int32)": "INT32", "tensor(uint8)": "UINT8"}
_NUMPY = {"FLOAT": np.float32, "INT64": np.int64, "INT32": np.int32, "UINT8": np.uint8}


class FakeTensorRT:
    """Stands in for the module. The attributes in lower case after ``driver`` are for tests."""

    ILogger = ILogger
    DataType = DataType
    TensorLocation = TensorLocation
    TensorIOMode = TensorIOMode
    ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy
    CudaGraphStrategy = CudaGraphStrategy

    def __init__(self, driver: FakeDriver, flavour: str = "tensorrt", version: str = "10.16.1.11") -> None:
        self.__version__ = version
        self.__name__ = flavour.replace("-", "_")
        self.rtx = flavour == "tensorrt-rtx"
        self.driver = driver
        self.registry = Registry()
        self.contexts_left: int | None = None
        self.capturable = True
        self.host_code: list[bool] = []
        self.strategies: list[CudaGraphStrategy] = []
        self.enqueue_works = True

    @property
    def gpu(self) -> FakeGpu:
        return self.driver.gpu

    def get_plugin_registry(self) -> Registry:
        return self.registry

    def Runtime(self, logger: Any) -> FakeRuntime:
        assert isinstance(logger, ILogger)
        assert logger.base_initialised, "ILogger.__init__ was not called"
        return FakeRuntime(self, logger)


def _own(gpu: FakeGpu, owner: Any, kind: str, size: int = 0) -> None:
    """Count ``owner`` until it is dropped, with device memory."""
    setattr(gpu, kind, getattr(gpu, kind) + 1)
    address = gpu.allocate(size, "device") if size else None

    def drop() -> None:
        setattr(gpu, kind, getattr(gpu, kind) - 1)
        if address is not None:
            del gpu.blocks[address]

    weakref.finalize(owner, drop)


class FakeRuntime:
    def __init__(self, trt: FakeTensorRT, logger: Any) -> None:
        self.trt, self.logger = trt, logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> FakeEngine | None:
        gpu = self.trt.gpu
        if not self.trt.driver.stack:
            gpu.violate("deserialising without a current context")
        self.trt.host_code.append(self.engine_host_code_allowed)
        if not serialized_engine.startswith(MAGIC):
            self.logger.log(ILogger.Severity.ERROR, "Serialization assertion failed: magic tag does not match")
            return None
        if gpu.used + ENGINE_BYTES > gpu.capacity:
            self.logger.log(ILogger.Severity.ERROR, "Requested amount of GPU memory could not be allocated")
            return None
        return FakeEngine(self, serialized_engine[len(MAGIC) :])


@functools.lru_cache(maxsize=8)
def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    library = native_ops.library_path()
    if library is not None:
        options.register_custom_ops_library(str(library))
    return onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
    )


class FakeEngine:
    """Its profile is that of the metadata in the ONNX file; ``num_keep`` is a shape tensor."""

    num_optimization_profiles = 1
    device_memory_size_v2 = ACTIVATION_BYTES

    def __init__(self, runtime: FakeRuntime, model: bytes) -> None:
        self.runtime, self.trt = runtime, runtime.trt
        self.session = _session(model)
        text = self.session.get_modelmeta().custom_metadata_map[METADATA_KEY]
        self.metadata = Metadata.from_json(text)
        self.inputs = {port.name: port for port in self.session.get_inputs()}
        self.outputs = {port.name: port for port in self.session.get_outputs()}
        self.tensors = {**self.inputs, **self.outputs}
        _own(self.trt.gpu, self, "engines", ENGINE_BYTES)

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[_TYPES[self.tensors[name].type]]

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.HOST if name == "num_keep" else TensorLocation.DEVICE

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        smallest, _, largest = self._limits(name)
        return tuple(low if low == high else -1 for low, high in zip(smallest, largest, strict=True))

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert profile_index == 0
        assert -1 in self.get_tensor_shape(name), "a profile need not hold the shape of a fixed input"
        return self._limits(name)

    def _limits(self, name: str) -> list[tuple[int, ...]]:
        m = self.metadata
        if name == "num_keep":
            return [(1,)] * 3
        rest = (2,) if name == "image_sizes" else (3, m.height, m.width)
        return [(batch, *rest) for batch in m.batch]

    def output_shape(self, name: str, batch: int) -> tuple[int, ...]:
        m = self.metadata
        sizes = {"boxes": (m.num_detections, 4), "scores": (m.num_detections,), "labels": (m.num_detections,)}
        sizes |= {"pred_logits": (m.num_queries, m.num_classes), "pred_boxes": (m.num_queries, 4)}
        return batch, *sizes[name]

    def create_runtime_config(self) -> RuntimeConfig:
        assert self.trt.rtx, "only TensorRT-RTX makes graphs by itself"
        return RuntimeConfig()

    def create_execution_context(self, strategy: Any) -> FakeContext | None:
        """Of TensorRT-RTX a configuration is asked for instead, which is another overload."""
        assert isinstance(strategy, RuntimeConfig if self.trt.rtx else ExecutionContextAllocationStrategy)
        if self.trt.rtx:
            self.trt.strategies.append(strategy.cuda_graph_strategy)
            strategy = strategy.strategy
        if self.trt.contexts_left is not None:
            if self.trt.contexts_left == 0:
                self.runtime.logger.log(ILogger.Severity.ERROR, "out of memory")
                return None
            self.trt.contexts_left -= 1
        return FakeContext(self, strategy == ExecutionContextAllocationStrategy.USER_MANAGED)


class FakeContext:
    """``state`` changes with every setting; a graph may only be launched in the state that it was captured in."""

    def __init__(self, engine: FakeEngine, needs_memory: bool) -> None:
        self.engine, self.gpu, self.trt = engine, engine.trt.gpu, engine.trt
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.memory: tuple[int, int] | None = None if needs_memory else (0, 0)
        self.state = 0
        self.ran_in_state = -1
        _own(self.gpu, self, "contexts")

    def _changed(self) -> None:
        self.state += 1

    def set_device_memory(self, memory: int, size: int) -> None:
        self.gpu.check_range(memory, size, "device", "set_device_memory")
        if size < self.engine.device_memory_size_v2:
            self.gpu.violate("too little memory for the activations")
        self.memory = (memory, size)
        self._changed()

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self.engine._limits(name)
        if len(shape) != len(largest) or not all(a <= b <= c for a, b, c in zip(smallest, shape, largest, strict=True)):
            self.engine.runtime.logger.log(ILogger.Severity.ERROR, f"{name}: shape {shape} outside of the profile")
            return False
        if self.shapes.get(name) != tuple(shape):
            self.shapes[name] = tuple(shape)
            self._changed()
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self.engine.tensors or not memory:
            return False
        if name != "num_keep":
            if memory % ALIGNMENT:
                self.gpu.violate(f"the address of {name} is not aligned to {ALIGNMENT}")
            self.gpu.check_range(memory, 1, "device", f"the address of {name}")
        self.addresses[name] = memory
        self._changed()
        return True

    def infer_shapes(self) -> list[str]:
        missing = [name for name in self.engine.inputs if name not in self.shapes]
        if "num_keep" in self.engine.inputs:
            if "num_keep" not in self.addresses:
                return [*missing, "num_keep"]
            kept = as_array(self.addresses["num_keep"], (1,), np.int64)[0]
            if not 1 <= kept <= self.engine.metadata.token_count:
                raise RuntimeError("infer_shapes error code: -1")
        return missing

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.engine.inputs:
            return self.shapes[name]
        return self.engine.output_shape(name, self.shapes["images"][0] if "images" in self.shapes else -1)

    def execute_async_v3(self, stream_handle: int) -> bool:
        gpu, engine = self.gpu, self.engine
        if not self.trt.driver.stack:
            gpu.violate("execute_async_v3 without a current context")
        stream = gpu.streams.get(stream_handle)
        if stream is None:
            gpu.violate("execute_async_v3 on a stream that does not exist")
            raise AssertionError
        missing = [name for name in engine.tensors if name not in self.addresses]
        if missing or self.memory is None or self.infer_shapes():
            gpu.violate(f"enqueued without the address of {missing}, activation memory or shapes")
        self._check_addresses()
        if not self.trt.enqueue_works:
            engine.runtime.logger.log(ILogger.Severity.ERROR, "Cuda Runtime (an illegal memory access)")
            return False
        if stream.captured is not None and (not self.trt.capturable or self.ran_in_state != self.state):
            # what a first enqueue after a change does cannot be captured
            stream.invalidated = True
            engine.runtime.logger.log(ILogger.Severity.ERROR, "operation not permitted when stream is capturing")
            return False
        captured_in = self.state if stream.captured is not None else None
        self.ran_in_state = self.state
        shapes, addresses = dict(self.shapes), dict(self.addresses)
        kept = {name: as_array(addresses[name], (1,), np.int64).copy() for name in engine.inputs if name == "num_keep"}

        alive = weakref.ref(self)

        def work() -> None:
            context = alive()
            if context is None:
                gpu.violate("a context was destroyed before its work was done")
                raise AssertionError
            if captured_in is not None and captured_in != context.state:
                gpu.violate("a graph is launched whose context has changed since the capture")
            context._check_addresses(addresses)
            feed = kept | {
                name: as_array(addresses[name], shapes[name], _NUMPY[engine.get_tensor_dtype(name).name])
                for name in engine.inputs
                if name not in kept
            }
            results = engine.session.run(list(engine.outputs), feed)
            for name, value in zip(engine.outputs, results, strict=True):
                as_array(addresses[name], value.shape, value.dtype)[...] = value
            gpu.tick(COMPUTE_MS)

        gpu.enqueue(stream, work)
        return True

    def _check_addresses(self, addresses: dict[str, int] | None = None) -> None:
        for name, address in (addresses or self.addresses).items():
            if name != "num_keep":
                shape = self.get_tensor_shape(name) if addresses is None else (1,)
                size = int(np.prod(shape)) * np.dtype(_NUMPY[self.engine.get_tensor_dtype(name).name]).itemsize
                self.gpu.check_range(address, size, "device", f"enqueue: {name}")
        if self.memory and self.memory[1]:
            self.gpu.check_range(*self.memory, "device", "enqueue: activations")
