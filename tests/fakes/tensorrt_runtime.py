"""The part of the fake TensorRT that runs: an engine is an ONNX file that ONNX Runtime runs."""

from __future__ import annotations

import functools
import json
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from sparse_detr_deploy import native_ops
from sparse_detr_deploy.metadata import METADATA_KEY, Metadata
from tests.fakes.engine_files import Plan, read_plan
from tests.fakes.gpu import COMPUTE_MS, FakeGpu, as_array
from tests.fakes.tensorrt_types import (
    DataType,
    ExecutionContextAllocationStrategy,
    ILogger,
    LayerInformationFormat,
    Registry,
    RuntimeConfig,
    TensorIOMode,
    TensorLocation,
)

if TYPE_CHECKING:
    from tests.fakes.tensorrt import FakeTensorRT

ENGINE_BYTES = 1 << 20  # what a deserialised engine takes on the fake GPU
ACTIVATION_BYTES = 1 << 16
ALIGNMENT = 256
_TYPES = {"tensor(float)": "FLOAT", "tensor(int64)": "INT64", "tensor(int32)": "INT32", "tensor(uint8)": "UINT8"}
_NUMPY = {"FLOAT": np.float32, "INT64": np.int64, "INT32": np.int32, "UINT8": np.uint8}


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
    engine_host_code_allowed = False

    def __init__(self, trt: FakeTensorRT, logger: ILogger) -> None:
        self._trt, self._logger = trt, logger
        self._registry = Registry(trt.loads, "of the runtime")

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> FakeEngine | None:
        gpu = self._trt.gpu
        if self._trt.driver.initialised and not self._trt.driver.stack:
            gpu.violate("deserialising without a current context")
        self._trt.host_code.append(self.engine_host_code_allowed)
        plan = read_plan(serialized_engine)
        if plan is None:
            return self._refuse("Serialization assertion failed: magic tag does not match")
        if plan.embedded and not self.engine_host_code_allowed:
            return self._refuse("the engine holds host code, which is not allowed")
        registered = self._registry.all_creators or self._trt.registry.all_creators
        if plan.needs_plugins and not plan.embedded and not registered:
            return self._refuse("could not find plugin MSDeformAttn")
        if gpu.used + ENGINE_BYTES > gpu.capacity:
            return self._refuse("Requested amount of GPU memory could not be allocated")
        return FakeEngine(self, plan)

    def _refuse(self, text: str) -> None:
        self._logger.log(ILogger.Severity.ERROR, text)


class FakeInspector:
    def __init__(self, types: tuple[str, ...]) -> None:
        self._types = types

    def get_engine_information(self, format: LayerInformationFormat) -> str:
        assert format is LayerInformationFormat.JSON
        return json.dumps({"Layers": [{"Outputs": [{"Name": "x", "Format/Datatype": text}]} for text in self._types]})


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
    """Its profile is the one that it was built with; ``num_keep`` is a shape tensor."""

    def __init__(self, runtime: FakeRuntime, plan: Plan) -> None:
        self._runtime, self._trt, self._plan = runtime, runtime._trt, plan
        _own(self._trt.gpu, self, "engines", ENGINE_BYTES)

    # only where it is run: a session takes its time

    @functools.cached_property
    def _session(self) -> Any:
        return _session(self._plan.model)

    @functools.cached_property
    def _metadata(self) -> Metadata:
        return Metadata.from_json(self._session.get_modelmeta().custom_metadata_map[METADATA_KEY])

    @functools.cached_property
    def _inputs(self) -> dict[str, Any]:
        return {port.name: port for port in self._session.get_inputs()}

    @functools.cached_property
    def _outputs(self) -> dict[str, Any]:
        return {port.name: port for port in self._session.get_outputs()}

    @property
    def _tensors(self) -> dict[str, Any]:
        return {**self._inputs, **self._outputs}

    @property
    def device_memory_size_v2(self) -> int:
        return ACTIVATION_BYTES

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[_TYPES[self._tensors[name].type]]

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
        if name in self._plan.profile:
            return [tuple(shape) for shape in self._plan.profile[name]]
        return [(1,) if name == "num_keep" else tuple(self._inputs[name].shape)] * 3

    def create_engine_inspector(self) -> FakeInspector:
        return FakeInspector(self._trt.engine_types)

    def _output_shape(self, name: str, batch: int) -> tuple[int, ...]:
        m = self._metadata
        sizes = {"boxes": (m.num_detections, 4), "scores": (m.num_detections,), "labels": (m.num_detections,)}
        sizes |= {"pred_logits": (m.num_queries, m.num_classes), "pred_boxes": (m.num_queries, 4)}
        return batch, *sizes[name]

    def create_runtime_config(self) -> RuntimeConfig:
        assert self._trt.rtx, "only TensorRT-RTX makes graphs by itself"
        return RuntimeConfig()

    def create_execution_context(self, strategy: Any) -> FakeContext | None:
        """Of TensorRT-RTX a configuration is asked for instead, which is another overload."""
        assert isinstance(strategy, RuntimeConfig if self._trt.rtx else ExecutionContextAllocationStrategy)
        if self._trt.rtx:
            self._trt.strategies.append(strategy.cuda_graph_strategy)
            strategy = strategy._strategy
        if self._trt.contexts_left is not None:
            if self._trt.contexts_left == 0:
                self._runtime._logger.log(ILogger.Severity.ERROR, "out of memory")
                return None
            self._trt.contexts_left -= 1
        return FakeContext(self, strategy == ExecutionContextAllocationStrategy.USER_MANAGED)


class FakeContext:
    """``state`` changes with every setting; a graph may only be launched in the state that it was captured in."""

    def __init__(self, engine: FakeEngine, needs_memory: bool) -> None:
        self._engine, self._gpu, self._trt = engine, engine._trt.gpu, engine._trt
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._memory: tuple[int, int] | None = None if needs_memory else (0, 0)
        self._state = 0
        self._ran_in_state = -1
        _own(self._gpu, self, "contexts")

    def _changed(self) -> None:
        self._state += 1

    def set_device_memory(self, memory: int, size: int) -> None:
        self._gpu.check_range(memory, size, "device", "set_device_memory")
        if size < self._engine.device_memory_size_v2:
            self._gpu.violate("too little memory for the activations")
        self._memory = (memory, size)
        self._changed()

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self._engine._limits(name)
        if len(shape) != len(largest) or not all(a <= b <= c for a, b, c in zip(smallest, shape, largest, strict=True)):
            self._engine._runtime._logger.log(ILogger.Severity.ERROR, f"{name}: shape {shape} outside of the profile")
            return False
        if self._shapes.get(name) != tuple(shape):
            self._shapes[name] = tuple(shape)
            self._changed()
        return not self._trt.refuses_shapes

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._engine._tensors or not memory:
            return False
        if name != "num_keep":
            if memory % ALIGNMENT:
                self._gpu.violate(f"the address of {name} is not aligned to {ALIGNMENT}")
            self._gpu.check_range(memory, 1, "device", f"the address of {name}")
        self._addresses[name] = memory
        self._changed()
        return True

    def infer_shapes(self) -> list[str]:
        missing = [name for name in self._engine._inputs if name not in self._shapes]
        if "num_keep" in self._engine._inputs:
            if "num_keep" not in self._addresses:
                return [*missing, "num_keep"]
            kept = as_array(self._addresses["num_keep"], (1,), np.int64)[0]
            if not 1 <= kept <= self._engine._metadata.token_count:
                raise RuntimeError("infer_shapes error code: -1")
        return missing

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._engine._inputs:
            return self._shapes[name]
        return self._engine._output_shape(name, self._shapes["images"][0] if "images" in self._shapes else -1)

    def execute_async_v3(self, stream_handle: int) -> bool:
        gpu, engine = self._gpu, self._engine
        if not self._trt.driver.stack:
            gpu.violate("execute_async_v3 without a current context")
        stream = gpu.streams.get(stream_handle)
        if stream is None:
            gpu.violate("execute_async_v3 on a stream that does not exist")
            raise AssertionError
        missing = [name for name in engine._tensors if name not in self._addresses]
        if missing or self._memory is None or self.infer_shapes():
            gpu.violate(f"enqueued without the address of {missing}, activation memory or shapes")
        self._check_addresses()
        if not self._trt.enqueue_works:
            engine._runtime._logger.log(ILogger.Severity.ERROR, "Cuda Runtime (an illegal memory access)")
            return False
        if stream.captured is not None and (not self._trt.capturable or self._ran_in_state != self._state):
            # what a first enqueue after a change does cannot be captured
            stream.invalidated = True
            engine._runtime._logger.log(ILogger.Severity.ERROR, "operation not permitted when stream is capturing")
            return False
        captured_in = self._state if stream.captured is not None else None
        self._ran_in_state = self._state
        shapes, addresses = dict(self._shapes), dict(self._addresses)
        kept = {name: as_array(addresses[name], (1,), np.int64).copy() for name in engine._inputs if name == "num_keep"}

        alive = weakref.ref(self)

        def work() -> None:
            context = alive()
            if context is None:
                gpu.violate("a context was destroyed before its work was done")
                raise AssertionError
            if captured_in is not None and captured_in != context._state:
                gpu.violate("a graph is launched whose context has changed since the capture")
            context._check_addresses(addresses)
            feed = kept | {
                name: as_array(addresses[name], shapes[name], _NUMPY[engine.get_tensor_dtype(name).name])
                for name in engine._inputs
                if name not in kept
            }
            results = engine._session.run(list(engine._outputs), feed)
            for name, value in zip(engine._outputs, results, strict=True):
                as_array(addresses[name], value.shape, value.dtype)[...] = value
            gpu.tick(COMPUTE_MS)

        gpu.enqueue(stream, work)
        return True

    def _check_addresses(self, addresses: dict[str, int] | None = None) -> None:
        for name, address in (addresses or self._addresses).items():
            if name != "num_keep":
                shape = self.get_tensor_shape(name) if addresses is None else (1,)
                size = int(np.prod(shape)) * np.dtype(_NUMPY[self._engine.get_tensor_dtype(name).name]).itemsize
                self._gpu.check_range(address, size, "device", f"enqueue: {name}")
        if self._memory and self._memory[1]:
            self._gpu.check_range(*self._memory, "device", "enqueue: activations")
