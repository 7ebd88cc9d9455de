"""What the driver tells, by a library of its functions that is none."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from sparse_detr_deploy.export.engine import gpu
from sparse_detr_deploy.export.engine.gpu import Driver, Gpu, query_driver

CAPABILITIES = {0: (8, 9), 1: (12, 0)}


class FakeCuda:
    """``libcuda.so.1``: fills what it is given the address of."""

    def __init__(self, gpus: int, status: int = 0) -> None:
        self._gpus, self._status, self._started = gpus, status, False

    def cuDriverGetVersion(self, number: Any) -> int:
        number._obj.value = 13020
        return 0

    def cuInit(self, flags: int) -> int:
        self._started = True
        return self._status

    def cuDeviceGetCount(self, number: Any) -> int:
        assert self._started
        number._obj.value = self._gpus
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = 100 + index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = f"GPU {device.value - 100}".encode()[: size - 1]
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        value._obj.value = CAPABILITIES[device.value - 100][{75: 0, 76: 1}[attribute]]
        return 0


@pytest.mark.parametrize(
    ("library", "expected"),
    [
        (FakeCuda(2), Driver("13.2", (Gpu("GPU 0", "sm89"), Gpu("GPU 1", "sm120")))),
        (FakeCuda(0), Driver("13.2", (), "the NVIDIA driver sees no GPU (see CUDA_VISIBLE_DEVICES)")),
        (
            FakeCuda(1, status=999),
            Driver("13.2", (), "the NVIDIA driver does not start (cuInit gives 999; see nvidia-smi)"),
        ),
    ],
)
def test_a_driver(library: FakeCuda, expected: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.ctypes, "CDLL", lambda name: library)
    assert query_driver() == expected


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(gpu.ctypes, "CDLL", missing)
    assert query_driver() == Driver(problem="no NVIDIA driver is installed (libcuda.so.1 is missing)")
