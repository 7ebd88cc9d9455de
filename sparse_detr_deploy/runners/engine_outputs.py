"""The buffers of an engine's outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from sparse_detr_deploy.cuda import DeviceBuffer, HostBuffer, Stream
from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.preprocessing import Feed
from sparse_detr_deploy.runners.device_arrays import DeviceArray, Lease
from sparse_detr_deploy.runners.engine import LoadedEngine

Shapes = Mapping[str, tuple[int, ...]]


class OutputBuffers:
    """Device memory for each output, and page-locked memory to copy it to."""

    def __init__(self, engine: LoadedEngine, largest: Shapes) -> None:
        """``largest``: the shapes that they must hold."""
        self._engine = engine
        self._device: dict[str, DeviceBuffer] = {}
        self._staging: dict[str, HostBuffer] = {}
        with contextlib.ExitStack() as kept:
            for port in engine.outputs:
                size = max(1, int(np.prod(largest[port.name], dtype=np.int64))) * port.dtype.itemsize
                self._device[port.name] = DeviceBuffer(engine.device, size)
                kept.callback(self._device[port.name].close)
                self._staging[port.name] = HostBuffer(engine.device, size)
                kept.callback(self._staging[port.name].close)
            self.close = kept.pop_all().close

    def bind(self, context: Any) -> None:
        """Let ``context`` write into them."""
        for name, buffer in self._device.items():
            if not context.set_tensor_address(name, buffer.address):
                raise BackendError(
                    f"{self._engine.path}: TensorRT refuses the output {name} ({self._engine.logger.take()})"
                )

    def download(self, shapes: Shapes, stream: Stream) -> Feed:
        """Enqueue the copies to the host. The arrays hold the outputs once ``stream`` is done, until the next run."""
        arrays = {}
        for port in self._engine.outputs:
            staging = self._staging[port.name]
            arrays[port.name] = staging.array(shapes[port.name], port.dtype)
            stream.download(staging.address, self._device[port.name].address, arrays[port.name].nbytes)
        return arrays

    def lend(self, shapes: Shapes, stream: Stream, lease: Lease, synced: bool) -> dict[str, DeviceArray]:
        """The outputs as they lie on the device."""
        return {
            port.name: DeviceArray(
                self._device[port.name].address, shapes[port.name], port.dtype, stream, lease, synced
            )
            for port in self._engine.outputs
        }
