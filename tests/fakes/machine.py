"""A machine with a fake GPU: the fakes in the places of the real modules, and arrays as other libraries make them."""

from __future__ import annotations

import contextlib
import gc
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sparse_detr_deploy.runners import dlpack
from tests.fakes.cuda_driver import FakeDriver
from tests.fakes.gpu import FakeGpu, raw
from tests.fakes.tensorrt import FakeTensorRT


class Machine:
    """What a test holds in its hands."""

    def __init__(self, gpu: FakeGpu, driver: FakeDriver, trt: FakeTensorRT) -> None:
        self.gpu, self.driver, self.trt = gpu, driver, trt

    def nothing_is_left(self) -> None:
        """Everything is freed, every context popped, and no rule was broken."""
        gc.collect()
        assert not any(self.gpu.live().values()), self.gpu.live()
        assert self.driver.stack == []
        assert self.gpu.violations == []
        assert dlpack.num_given() == 0


@contextlib.contextmanager
def fake_machine(flavour: str = "tensorrt", version: str = "10.16.1.11", **gpu: Any) -> Iterator[Machine]:
    """Put the fakes in place; at the end nothing may be left on the GPU."""
    fake = FakeGpu(**gpu)
    driver = FakeDriver(fake)
    trt = FakeTensorRT(driver, flavour, version)
    package, bindings = types.ModuleType("cuda"), types.ModuleType("cuda.bindings")
    bindings.driver = driver  # type: ignore[attr-defined]
    package.bindings = bindings  # type: ignore[attr-defined]
    machine = Machine(fake, driver, trt)
    with pytest.MonkeyPatch.context() as patch:
        for name, module in (("cuda", package), ("cuda.bindings", bindings), ("cuda.bindings.driver", driver)):
            patch.setitem(sys.modules, name, module)
        patch.setitem(sys.modules, trt.__name__, trt)
        gc.freeze()  # what was there before is no garbage of this machine, and takes long to look through
        try:
            yield machine
            machine.nothing_is_left()
        finally:
            gc.unfreeze()


class ForeignArray:
    """Memory on the GPU that belongs to another library, written by work that is still pending on its stream.

    ``speaks`` is ``dlpack`` (as torch does) or ``interface`` (as pycuda does, without a word on streams).
    """

    def __init__(
        self, machine: Machine, values: NDArray[Any], speaks: str, offset: int = 0, kind: str = "device"
    ) -> None:
        self._gpu, self._driver, self.values, self.offset = machine.gpu, machine.driver, values, offset
        self.strides: tuple[int, ...] | None = None
        self.stream = 1 if speaks == "interface" else machine.gpu.handle()
        if self.stream != 1:
            machine.gpu.streams[self.stream] = type(machine.gpu.streams[1])()
        self._address = machine.gpu.allocate(values.nbytes + offset, kind)
        source = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
        target = raw(self._address + offset, values.nbytes)
        machine.gpu.enqueue(machine.gpu.streams[self.stream], lambda: target.__setitem__(slice(None), source))
        self.given_back = 0
        if speaks == "interface":
            self.__cuda_array_interface__ = {
                "shape": values.shape,
                "typestr": values.dtype.str,
                "data": (self.address, False),
                "version": 2,
            }
        else:
            self.__dlpack_device__ = lambda: (dlpack.CUDA, int(kind == "other device"))
            self.__dlpack__ = self._capsule

    @property
    def address(self) -> int:
        return self._address + self.offset

    def _capsule(self, *, stream: int | None = None) -> Any:
        assert stream is not None
        assert stream > 2, "the consumer's stream, which the producer orders its work before"
        handle = self._driver.cuEventCreate(0)[1]
        self._driver.cuEventRecord(handle, self.stream)
        self._driver.cuStreamWaitEvent(stream, handle, 0)
        self._driver.cuEventDestroy(handle)
        return dlpack.give(self.address, self.values.shape, self.values.dtype, 0, self)

    def free(self) -> None:
        """As the other library does at some time."""
        self._gpu.drain(self._gpu.streams[self.stream])
        del self._gpu.blocks[self._address]
        if self.stream != 1:
            del self._gpu.streams[self.stream]
