"""The GPUs of this machine, as the driver itself tells them: needs no package, and no driver to say that there is none."""

from __future__ import annotations

import ctypes
import dataclasses

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@dataclasses.dataclass(frozen=True)
class Gpu:
    """Name and compute capability, such as ``sm89``."""

    name: str
    capability: str


@dataclasses.dataclass(frozen=True)
class Driver:
    """What the driver tells: the CUDA version that it runs, its GPUs, or why it tells nothing."""

    cuda: str | None = None
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None


def query_driver() -> Driver:
    """Ask the driver; never raises."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Driver(problem="no NVIDIA driver is installed (libcuda.so.1 is missing)")
    number = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(number))
    cuda = f"{number.value // 1000}.{number.value % 1000 // 10}"
    status = library.cuInit(0)
    if status != 0:
        return Driver(cuda, problem=f"the NVIDIA driver does not start (cuInit gives {status}; see nvidia-smi)")
    library.cuDeviceGetCount(ctypes.byref(number))
    gpus = tuple(_gpu(library, index) for index in range(number.value))
    return Driver(cuda, gpus, None if gpus else "the NVIDIA driver sees no GPU (see CUDA_VISIBLE_DEVICES)")


def _gpu(library: ctypes.CDLL, index: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    library.cuDeviceGet(ctypes.byref(device), index)
    library.cuDeviceGetName(name, len(name), device)
    library.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    library.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    return Gpu(name.value.decode(errors="replace"), f"sm{major.value}{minor.value}")
