"""The part of the fake TensorRT that parses: a network with a layer for each node, and optimisation profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import onnx

from tests.fakes.tensorrt_types import NAMESPACE, DataType, ILogger, LayerType, Registry

if TYPE_CHECKING:
    from tests.fakes.tensorrt import FakeTensorRT

SHAPE_INPUT = "num_keep"  # the real parser finds out which inputs are shape tensors
_KINDS = {"Conv": LayerType.CONVOLUTION, "MatMul": LayerType.MATRIX_MULTIPLY, "Gemm": LayerType.MATRIX_MULTIPLY}
_TYPES = {
    onnx.TensorProto.FLOAT: DataType.FLOAT,
    onnx.TensorProto.FLOAT16: DataType.HALF,
    onnx.TensorProto.INT64: DataType.INT64,
    onnx.TensorProto.INT32: DataType.INT32,
    onnx.TensorProto.UINT8: DataType.UINT8,
}
Ranges = list[tuple[int, ...]]


class FakeTensor:
    def __init__(self, name: str, dtype: DataType, shape: tuple[int, ...] = ()) -> None:
        self._name, self._dtype, self._shape = name, dtype, shape

    @property
    def name(self) -> str:
        return self._name

    @property
    def dtype(self) -> DataType:
        return self._dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def is_shape_tensor(self) -> bool:
        return self._name == SHAPE_INPUT


class FakeLayer:
    num_outputs = 1

    def __init__(self, name: str, kind: LayerType, dtype: DataType) -> None:
        self._name, self._type = name, kind
        self._output = FakeTensor(name, dtype)

    @property
    def name(self) -> str:
        return self._name

    @property
    def type(self) -> LayerType:
        return self._type

    def get_output(self, index: int) -> FakeTensor:
        assert index == 0
        return self._output


class FakeNetwork:
    def __init__(self, trt: FakeTensorRT, registry: Registry) -> None:
        self._trt, self._registry = trt, registry
        self._layers: list[FakeLayer] = []
        self._inputs: list[FakeTensor] = []
        self._model = b""

    @property
    def num_layers(self) -> int:
        return len(self._layers)

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    def get_layer(self, index: int) -> FakeLayer:
        return self._layers[index]

    def get_input(self, index: int) -> FakeTensor:
        return self._inputs[index]


class FakeParserError:
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text


class FakeParser:
    """Takes the plugin for a call with a namespace where it is registered, else the function; knows no other domain."""

    def __init__(self, network: FakeNetwork, logger: ILogger) -> None:
        self._network, self._logger = network, logger
        self._errors: list[FakeParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> FakeParserError:
        return self._errors[index]

    def parse(self, model: bytes) -> bool:
        network = self._network
        trt = network._trt
        proto = onnx.load_from_string(model)
        trt.protos.append(proto)
        for value in proto.graph.input:
            kind = value.type.tensor_type
            shape = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in kind.shape.dim)
            network._inputs.append(FakeTensor(value.name, _TYPES[kind.elem_type], shape))
        registered = {c.name for place in (network._registry, trt.registry) for c in place.all_creators}
        bodies = {function.name for function in proto.functions}
        for node in proto.graph.node:
            named = any(attribute.name == "plugin_namespace" for attribute in node.attribute)
            plugin = node.domain == NAMESPACE and node.op_type in registered and named and trt.takes_plugins
            if node.domain not in ("", "ai.onnx") and not plugin and node.op_type not in bodies:
                # that TensorRT-RTX, which takes no plugins, says the same was seen
                self._errors.append(FakeParserError(f"no importer for {node.op_type}"))
                return False
            layer = LayerType.PLUGIN_V3 if plugin else _KINDS.get(node.op_type, LayerType.ELEMENTWISE)
            network._layers.append(FakeLayer(node.name, layer, trt.layer_type))
        network._model = model
        return True


class FakeProfile:
    """Refuses what that of TensorRT-RTX 1.7 was seen to refuse, and at the same moment."""

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger
        self._shapes: dict[str, Ranges] = {}
        self._values: dict[str, Ranges] = {}
        self._valid = True

    def set_shape(self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]) -> None:
        ranges = [tuple(shape) for shape in (min, opt, max)]
        for shape, name in zip(ranges, ("min", "opt", "max"), strict=True):
            if any(size < 0 for size in shape):
                raise RuntimeError(f"Shape provided for {name} is inconsistent with other shapes.")
        self._shapes[input] = ranges

    def get_shape(self, input: str) -> Ranges:
        return self._shapes[input]

    def set_shape_input(self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]) -> None:
        ranges = [tuple(values) for values in (min, opt, max)]
        if not _ordered(ranges):
            self._valid = False
            raise RuntimeError("input provided for shape tensor is inconsistent with other inputs.")
        self._values[input] = ranges

    def get_shape_input(self, input: str) -> list[list[int]]:
        return [list(values) for values in self._values[input]]


def _ordered(ranges: Ranges) -> bool:
    low, middle, high = ranges
    return len(low) == len(middle) == len(high) and all(a <= b <= c for a, b, c in zip(low, middle, high, strict=True))


def profile_is_valid(profile: FakeProfile) -> bool:
    """What ``add_optimization_profile`` looks at."""
    return profile._valid and all(map(_ordered, profile._shapes.values()))


def network_fault(network: FakeNetwork, profiles: list[FakeProfile]) -> str | None:
    """What the builder has against the inputs of a network with these profiles."""
    inputs = network._inputs
    if not profiles and any(tensor.is_shape_tensor or -1 in tensor.shape for tensor in inputs):
        return "Network has dynamic or shape inputs, but no optimization profile has been defined."
    for index, profile in enumerate(profiles):
        for tensor in inputs:
            if fault := _input_fault(tensor, profile._shapes.get(tensor.name), profile._values.get(tensor.name), index):
                return fault
    return None


def _input_fault(tensor: FakeTensor, shapes: Ranges | None, values: Ranges | None, index: int) -> str | None:
    name, shape = tensor.name, tensor.shape
    if tensor.is_shape_tensor:
        if values is None:
            return f"Optimization profile {index} is missing values for shape input tensor {name}."
        if len(values[0]) != 1:
            return f"Optimization profile {index} provides number of elements in shape tensor {name} to be {len(values[0])}."
    if shapes is None:
        return f"Dynamic input tensor {name} is missing dimensions in profile {index}." if -1 in shape else None
    if len(shapes[0]) != len(shape):
        return f"Input tensor {name} has {len(shape)} dimensions but profile {index} has {len(shapes[0])} dimensions."
    for axis, size in enumerate(shape):
        if size >= 0 and any(given[axis] != size for given in shapes):
            return f"Dimension mismatch for tensor {name} and profile {index}. At dimension axis {axis}"
    return None


def profile_ranges(profiles: list[FakeProfile]) -> dict[str, Any]:
    """Shapes of the first profile, as an engine keeps them."""
    return {
        name: [list(shape) for shape in ranges] for name, ranges in (profiles[0]._shapes if profiles else {}).items()
    }
