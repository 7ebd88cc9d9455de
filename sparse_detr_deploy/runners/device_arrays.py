"""Arrays on a GPU that other libraries give and take: torch, cupy, pycuda, numba, jax."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_detr_deploy.cuda import LEGACY_STREAM, Device, Stream, order
from sparse_detr_deploy.errors import BackendError, InputError
from sparse_detr_deploy.runners import dlpack


@dataclasses.dataclass
class DeviceView:
    """Contiguous memory on the GPU that belongs to somebody else. ``release`` gives it back."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    release: Callable[[], None]


def is_device_array(value: Any) -> bool:
    """Whether ``value`` offers its memory on a GPU by DLPack or ``__cuda_array_interface__``."""
    if isinstance(value, np.ndarray):
        return False
    return _speaks_dlpack(value) or hasattr(value, "__cuda_array_interface__")


def _speaks_dlpack(value: Any) -> bool:
    return hasattr(value, "__dlpack_device__") and int(value.__dlpack_device__()[0]) == dlpack.CUDA


def view(value: Any, name: str, device: Device, stream: Stream) -> DeviceView:
    """The memory of a device array; what ``stream`` does from now on comes after what its producer has enqueued.

    DLPack is asked first: it hands over the producer's stream, which torch does not tell otherwise.

    Raises:
        InputError: another device, not contiguous, of a type that NumPy has not, or refused by the producer.
    """
    pending: int | None = None
    if _speaks_dlpack(value):
        # first: a producer on another GPU can do nothing with our stream
        _check_place(int(value.__dlpack_device__()[1]), name, device)
        try:
            taken = dlpack.TakenTensor(value.__dlpack__(stream=stream.address))
        except Exception as error:
            raise InputError(
                f"{name}: a {type(value).__name__} that does not give its memory ({error}): detach or copy it first"
            ) from None
        found = DeviceView(taken.address, taken.shape, taken.dtype or np.dtype(object), taken.close)
        strides = taken.strides
    else:
        found, strides, pending = _by_interface(value, name)
    try:
        _check(found, strides, name, device)
    except InputError:
        found.release()
        raise
    if pending is not None:
        order(device, pending, stream.address)
    return found


def _by_interface(value: Any, name: str) -> tuple[DeviceView, tuple[int, ...] | None, int]:
    """By ``__cuda_array_interface__`` (version 2 or 3), with strides in elements and the stream to wait for."""
    try:
        described = value.__cuda_array_interface__
        dtype, shape = np.dtype(described["typestr"]), tuple(int(size) for size in described["shape"])
        address, strides, producer = int(described["data"][0]), described.get("strides"), described.get("stream")
    except Exception as error:
        raise InputError(f"{name}: its __cuda_array_interface__ cannot be read ({error}): copy it first") from None
    if strides is not None:
        strides = tuple(int(stride) // dtype.itemsize for stride in strides)
    # version 2 says nothing of streams, and None means that nothing is pending: the default stream is cheap to wait for
    return DeviceView(address, shape, dtype, lambda: None), strides, int(producer or LEGACY_STREAM)


def _check(found: DeviceView, strides: tuple[int, ...] | None, name: str, device: Device) -> None:
    if found.dtype == object:
        raise InputError(f"{name}: its type is none of NumPy's: convert it to what the engine takes")
    if strides is not None and 0 not in found.shape:
        step = 1
        for size, stride in zip(reversed(found.shape), reversed(strides), strict=True):
            if size != 1 and stride != step:
                raise InputError(f"{name} is not contiguous: call .contiguous() (torch) or ascontiguousarray first")
            step *= size
    _check_place(device.location(found.address), name, device)


def _check_place(located: int | None, name: str, device: Device) -> None:
    if located != device.index:
        where = "not in the memory of a GPU that this process uses" if located is None else f"on GPU {located}"
        raise InputError(f"{name} lies {where}, but the engine runs on GPU {device.index}: move it there first")


class Lease:
    """Memory that is the borrower's until the lender takes it back, after what is then on the streams ``consumers``."""

    def __init__(self) -> None:
        self.valid = True
        self.consumers: set[int] = set()


class DeviceArray:
    """An output on the GPU, for ``torch.from_dlpack``, ``cupy.from_dlpack``, pycuda and others without a copy.

    Its memory is the runner's: it may be used until the runner runs again or is closed. Afterwards it is refused;
    arrays of other libraries made from it before would show the newer result.
    """

    def __init__(
        self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any], stream: Stream, lease: Lease, synced: bool
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self._address, self._stream, self._lease, self._synced = address, stream, lease, synced

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def _borrowed(self) -> int:
        if not self._lease.valid:
            raise BackendError(
                "the output's memory was used again by a later run, or the runner is closed: "
                "copy an output before the next run, or run on a clone()"
            )
        return self._address

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self._borrowed(), False),
            "strides": None,
            "stream": None if self._synced else self._stream.address,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self._stream.device.index

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A capsule, unversioned whatever ``max_version``; what ``stream`` does from now on comes after the run, and
        before the next one, for which it must still exist. ``-1``: without waiting.
        """
        address = self._borrowed()
        if copy or (dl_device is not None and tuple(dl_device) != self.__dlpack_device__()):
            raise BufferError("an output is lent as it lies, on its GPU: copy or move it afterwards")
        if stream == 0:
            raise BackendError("stream 0 is ambiguous in DLPack: 1 is the legacy default stream, 2 that of the thread")
        device = self._stream.device
        if stream != -1:
            with device.current():
                order(device, self._stream.address, stream or LEGACY_STREAM)
            self._lease.consumers.add(stream or LEGACY_STREAM)
        return dlpack.give(address, self.shape, self.dtype, device.index, self)

    def to_host(self) -> NDArray[Any]:
        """A copy as a NumPy array."""
        result = np.empty(self.shape, dtype=self.dtype)
        address = self._borrowed()
        with self._stream.device.current():
            self._stream.download(result.ctypes.data, address, self.nbytes)
            self._stream.synchronize()
        return result
