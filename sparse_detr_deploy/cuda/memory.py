"""Memory of the device, and of the host for the device."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sparse_detr_deploy.cuda.device import CudaError, Device, Handle

OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"
_MIB = 2**20


class _Memory(Handle):
    _allocate: str
    _where: str

    def __init__(self, device: Device, size: int) -> None:
        """``size`` in bytes, at least 1. Raises :class:`CudaError` where there is no room."""
        self.size = size
        try:
            super().__init__(device, device.call(self._allocate, size))
        except CudaError as error:
            if error.code != OUT_OF_MEMORY:
                raise
            room = f", {device.free_memory() / _MIB:.0f} MiB are free" if self._where == "device" else ""
            raise CudaError(
                f"{device.name} (GPU {device.index}): no {self._where} memory for {size / _MIB:.1f} MiB{room}; close "
                "what else uses it, or build the engine for smaller batches or fp16",
                error.code,
            ) from None


class DeviceBuffer(_Memory):
    """Memory on the GPU, aligned to 256 bytes."""

    _allocate, _free, _where = "cuMemAlloc", "cuMemFree", "device"


class HostBuffer(_Memory):
    """Page-locked memory of the host, which the GPU copies from and to by itself."""

    _allocate, _free, _where = "cuMemAllocHost", "cuMemFreeHost", "page-locked host"

    def array(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """The first bytes as an array; it must not be used after ``close``."""
        raw = np.ctypeslib.as_array((ctypes.c_uint8 * self.size).from_address(self.address))
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return raw[:size].view(dtype).reshape(shape)
