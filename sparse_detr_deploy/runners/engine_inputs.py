"""From what a caller feeds to addresses and shapes that a context takes, with the buffers in between."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_detr_deploy.cuda import DeviceBuffer, Event, HostBuffer, Stream
from sparse_detr_deploy.errors import ArtefactError, InputError
from sparse_detr_deploy.runners import device_arrays
from sparse_detr_deploy.runners.engine import LoadedEngine, Port

_ALIGNMENT = 256  # of the addresses that TensorRT takes


@dataclasses.dataclass
class Binding:
    """The inputs of one run, checked. Two with one ``key`` are alike for a context and for a graph."""

    shapes: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    addresses: dict[str, int] = dataclasses.field(default_factory=dict)
    shape_values: dict[str, NDArray[Any]] = dataclasses.field(default_factory=dict)
    uploads: list[tuple[str, NDArray[Any]]] = dataclasses.field(default_factory=list)
    copies: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)
    views: list[device_arrays.DeviceView] = dataclasses.field(default_factory=list)

    @functools.cached_property
    def key(self) -> tuple[Any, ...]:
        """Shapes, values of shape tensors, and addresses on the device."""
        return tuple(
            (name, shape, self.shape_values[name].tobytes() if name in self.shape_values else self.addresses[name])
            for name, shape in self.shapes.items()
        )

    def release(self) -> None:
        """Give borrowed memory back."""
        for view in self.views:
            view.release()
        self.views.clear()

    def apply(self, context: Any, engine: LoadedEngine) -> dict[str, tuple[int, ...]]:
        """Set shapes and addresses of the inputs; the shapes of the outputs follow.

        Raises:
            InputError: TensorRT refuses a shape or a value.
        """
        engine.logger.take()
        try:
            taken = all(context.set_input_shape(name, shape) for name, shape in self.shapes.items())
            taken = taken and all(context.set_tensor_address(name, at) for name, at in self.addresses.items())
            unknown = list(context.infer_shapes()) if taken else ["the inputs"]
        except RuntimeError as error:
            unknown = [str(error)]
        if unknown:
            sizes = ", ".join(f"{name} {_written(shape)}" for name, shape in self.shapes.items())
            raise InputError(f"{engine.path} does not take {sizes}: {', '.join(unknown)} ({engine.logger.take()})")
        shapes = {port.name: tuple(context.get_tensor_shape(port.name)) for port in engine.outputs}
        if any(size < 0 for shape in shapes.values() for size in shape):
            raise ArtefactError(f"{engine.path}: its outputs have no size before it runs ({shapes}): build it again")
        return shapes


class InputBuffers:
    """Device memory for each input, and page-locked memory to copy it from, of the profile's largest shapes."""

    def __init__(self, engine: LoadedEngine) -> None:
        self._engine = engine
        self._device: dict[str, DeviceBuffer] = {}
        self._staging: dict[str, HostBuffer] = {}
        with contextlib.ExitStack() as kept:
            self._uploaded = Event(engine.device)
            kept.callback(self._uploaded.close)
            for port in engine.inputs:
                if not port.on_host:
                    size = int(np.prod(port.largest, dtype=np.int64)) * port.dtype.itemsize
                    self._device[port.name] = DeviceBuffer(engine.device, size)
                    kept.callback(self._device[port.name].close)
                    self._staging[port.name] = HostBuffer(engine.device, size)
                    kept.callback(self._staging[port.name].close)
            self.close = kept.pop_all().close

    def largest(self) -> Binding:
        """What makes the largest outputs."""
        binding = Binding()
        for port in self._engine.inputs:
            binding.shapes[port.name] = port.largest
            if port.on_host:
                values = np.full(port.largest, self._engine.metadata.token_count, dtype=port.dtype)
                binding.shape_values[port.name], binding.addresses[port.name] = values, values.ctypes.data
            else:
                binding.addresses[port.name] = self._device[port.name].address
        return binding

    def bind(self, feed: Mapping[str, Any], stream: Stream) -> Binding:
        """Check ``feed`` (NumPy arrays, or arrays on the GPU) and take its addresses; nothing is copied yet.

        Raises:
            InputError: an input is missing, unknown, or of a type, shape, place or value that the engine does not take.
        """
        names = [port.name for port in self._engine.inputs]
        if set(feed) != set(names):
            raise InputError(f"the inputs are {', '.join(feed) or 'none'}, but the engine takes {', '.join(names)}")
        binding = Binding()
        try:
            for port in self._engine.inputs:
                self._bind(binding, port, feed[port.name], stream)
        except BaseException:
            binding.release()
            raise
        return binding

    def _bind(self, binding: Binding, port: Port, value: Any, stream: Stream) -> None:
        name = port.name
        if device_arrays.is_device_array(value):
            if port.on_host:
                raise InputError(f"{name} is a shape tensor, which TensorRT reads from the host: give a NumPy array")
            view = device_arrays.view(value, name, self._engine.device, stream)
            binding.views.append(view)
            _check(port, view.dtype, view.shape)
            target = self._device[name].address
            if view.address % _ALIGNMENT:
                size = int(np.prod(view.shape, dtype=np.int64)) * view.dtype.itemsize
                binding.copies.append((target, view.address, size))
            binding.addresses[name] = target if view.address % _ALIGNMENT else view.address
            binding.shapes[name] = view.shape
            return
        if not isinstance(value, np.ndarray):
            raise InputError(f"{name} is a {type(value).__name__}: give a NumPy array, or an array on the GPU")
        _check(port, value.dtype, value.shape)
        binding.shapes[name] = value.shape
        if name == "num_keep":
            self._check_counts(value)
        if port.on_host:
            own = np.ascontiguousarray(value).copy()  # TensorRT reads it again at every run
            binding.shape_values[name], binding.addresses[name] = own, own.ctypes.data
        else:
            binding.uploads.append((name, value))
            binding.addresses[name] = self._device[name].address

    def _check_counts(self, counts: NDArray[Any]) -> None:
        tokens = self._engine.metadata.token_count
        if counts.min() < 1 or counts.max() > tokens:
            raise InputError(f"num_keep is {counts.tolist()}, but of {tokens} tokens 1 to {tokens} can be kept")

    def upload(self, binding: Binding, stream: Stream) -> None:
        """Enqueue the copies to the device."""
        if binding.uploads:
            self._uploaded.synchronize()  # an earlier copy may still read the staging memory
        for name, value in binding.uploads:
            staging = self._staging[name]
            np.copyto(staging.array(value.shape, value.dtype), value)
            stream.upload(self._device[name].address, staging.address, value.nbytes)
        if binding.uploads:
            self._uploaded.record(stream.address)
        binding.uploads.clear()  # staged: the caller's arrays are free again
        for target, source, size in binding.copies:
            stream.copy(target, source, size)


def _check(port: Port, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    if dtype != port.dtype:
        raise InputError(f"{port.name} is {dtype}, but the engine takes {port.dtype}: convert it first")
    if not port.fits(shape):
        takes = " × ".join(
            str(low) if low == high else f"{low}–{high}" for low, high in zip(port.smallest, port.largest, strict=True)
        )
        raise InputError(
            f"{port.name} is {_written(shape)}, but the engine's profile takes {takes}: build it with another --batch or "
            "--size for other shapes"
        )


def _written(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "a single number"
