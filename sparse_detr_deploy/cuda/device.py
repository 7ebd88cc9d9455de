"""The driver and a device."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from sparse_detr_deploy.errors import BackendError, InputError


class CudaError(BackendError):
    """A call of CUDA's driver failed; ``code`` is its name, such as ``CUDA_ERROR_ILLEGAL_ADDRESS``."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def load_driver() -> Any:
    """The initialised module ``cuda.bindings.driver``; :class:`BackendError` where it or the driver is absent."""
    try:
        from cuda.bindings import driver
    except ImportError:
        raise BackendError(
            "cuda-bindings is not installed, and engines need it: pip install 'sparse-detr-deploy[tensorrt]' (or [rtx])"
        ) from None
    call(driver, "cuInit", 0)
    return driver


def call(driver: Any, name: str, *arguments: Any) -> Any:
    """What the function returns after its status: nothing, one value or a tuple. Raises :class:`CudaError`."""
    try:
        status, *values = getattr(driver, name)(*arguments)
    except (RuntimeError, NotImplementedError, AttributeError) as error:  # no libcuda, or one without this function
        raise CudaError(
            f"CUDA cannot be used ({name}: {error}): install NVIDIA's driver, or a newer one", "CUDA_ERROR_NOT_FOUND"
        ) from None
    if int(status) != 0:
        code = getattr(status, "name", str(status))
        mend = "see the driver with nvidia-smi" if name == "cuInit" else "a later call may tell of an earlier kernel"
        raise CudaError(f"{name} failed: {code} ({_explained(driver, status)}); {mend}", code)
    return values[0] if len(values) == 1 else tuple(values) or None


def _explained(driver: Any, status: Any) -> str:
    found, text = driver.cuGetErrorString(status)
    return text.decode() if int(found) == 0 and text else "no explanation"


class Device:
    """A GPU and its primary context, which torch, cupy and TensorRT use as well."""

    def __init__(self, index: int = 0) -> None:
        """Retain the primary context.

        Raises:
            InputError: ``index`` is not a number of a device.
            BackendError: cuda-bindings or the driver is absent, or there is no such device.
        """
        if type(index) is not int or index < 0:
            raise InputError(f"the device {index!r} is not a number of a GPU: give 0, 1, …")
        self.driver = load_driver()
        count = self.call("cuDeviceGetCount")
        if index >= count:
            visible = "no GPU is visible" if count == 0 else f"only GPUs 0 to {count - 1} are visible"
            raise BackendError(f"there is no GPU {index}: {visible} (nvidia-smi lists them; see CUDA_VISIBLE_DEVICES)")
        self.index = index
        self._handle = self.call("cuDeviceGet", index)
        self.name = self.call("cuDeviceGetName", 256, self._handle).split(b"\0")[0].decode()
        self.pci_bus_id = self.call("cuDeviceGetPCIBusId", 32, self._handle).split(b"\0")[0].decode()
        major, minor = (self._attribute(f"COMPUTE_CAPABILITY_{part}") for part in ("MAJOR", "MINOR"))
        self.capability = f"sm{major}{minor}"
        self._context = self.call("cuDevicePrimaryCtxRetain", self._handle)
        self._closing = threading.Lock()

    def call(self, name: str, *arguments: Any) -> Any:
        """See :func:`call`."""
        return call(self.driver, name, *arguments)

    def _attribute(self, name: str) -> int:
        key = getattr(self.driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(self.call("cuDeviceGetAttribute", key, self._handle))

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """The primary context is the calling thread's inside, and what was before is again after."""
        if self._context is None:
            raise BackendError("the device is closed")
        self.call("cuCtxPushCurrent", self._context)
        try:
            yield
        finally:
            self.call("cuCtxPopCurrent")

    def free_memory(self) -> int:
        """Bytes that are free on the device, for all processes."""
        return int(self.call("cuMemGetInfo")[0])

    def location(self, address: int) -> int | None:
        """The device that memory lies on; ``None`` for memory that is not on any."""
        attributes = self.driver.CUpointer_attribute
        try:
            kind = self.call("cuPointerGetAttribute", attributes.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address)
            if int(kind) != int(self.driver.CUmemorytype.CU_MEMORYTYPE_DEVICE):
                return None
            return int(self.call("cuPointerGetAttribute", attributes.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address))
        except CudaError as error:
            if error.code != "CUDA_ERROR_INVALID_VALUE":  # which says that CUDA does not know the address
                raise
            return None

    def close(self) -> None:
        """Release the primary context."""
        with self._closing:
            context, self._context = self._context, None
        if context is not None:
            self.call("cuDevicePrimaryCtxRelease", self._handle)


class Handle:
    """Something of a device that a function of the driver frees."""

    _free: str

    def __init__(self, device: Device, handle: Any) -> None:
        self.device = device
        self._handle = handle

    @property
    def address(self) -> int:
        """The handle or pointer as a number."""
        if self._handle is None:
            raise BackendError(f"the {type(self).__name__} is closed")
        return int(self._handle)

    def close(self) -> None:
        """Free it."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self.device.call(self._free, handle)
