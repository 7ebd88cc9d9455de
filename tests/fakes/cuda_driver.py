"""A fake of ``cuda.bindings.driver``: the functions that the toolkit calls, on a :class:`FakeGpu`.

As there, a function returns its status first; pointers and handles are objects that ``int`` takes.
"""

from __future__ import annotations

import threading
from typing import Any

from tests.fakes.cuda_enums import (
    CUdevice_attribute,
    CUevent_flags,
    CUmemorytype,
    CUpointer_attribute,
    CUresult,
    CUstream_flags,
    CUstreamCaptureMode,
)
from tests.fakes.cuda_streams import OK, Answer, Handle, StreamFunctions
from tests.fakes.gpu import MIB, FakeGpu, raw


class FakeDriver(StreamFunctions):
    """Stands in for the module. Whatever is not a function of CUDA here is for tests."""

    CUresult = CUresult
    CUdevice_attribute = CUdevice_attribute
    CUpointer_attribute = CUpointer_attribute
    CUmemorytype = CUmemorytype
    CUstream_flags = CUstream_flags
    CUevent_flags = CUevent_flags
    CUstreamCaptureMode = CUstreamCaptureMode

    def __init__(self, *gpus: FakeGpu) -> None:
        """One GPU is simulated; more only count."""
        self.gpus = gpus
        self._thread = threading.local()
        self.initialised = False
        self.failures: dict[str, list[CUresult | None]] = {}

    @property
    def gpu(self) -> FakeGpu:  # type: ignore[override]
        return self.gpus[0]

    @property
    def stack(self) -> list[int]:  # type: ignore[override]
        """Contexts of this thread, the current one last."""
        if not hasattr(self._thread, "stack"):
            self._thread.stack = []
        return self._thread.stack

    def fail(self, name: str, *results: CUresult | None) -> None:
        """Let the next calls of a function give these, ``None`` being as usual."""
        self.failures[name] = list(results)

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if not name.startswith("cu"):
            return found
        planned = object.__getattribute__(self, "failures").get(name)
        if planned:
            result = planned.pop(0)
            if result is not None:
                return lambda *arguments: (result, None)
        return found

    # without a context

    def cuInit(self, Flags: int) -> Answer:
        self.initialised = True
        return (OK if self.gpus else CUresult.CUDA_ERROR_NO_DEVICE,)

    def cuGetErrorString(self, error: CUresult) -> Answer:
        return OK, CUresult(error).name.lower().encode()

    def cuDeviceGetCount(self) -> Answer:
        return OK, len(self.gpus)

    def cuDeviceGet(self, ordinal: int) -> Answer:
        return OK, Handle(ordinal)

    def cuDeviceGetName(self, length: int, dev: Any) -> Answer:
        return OK, b"Fake GPU".ljust(length, b"\0")

    def cuDeviceGetPCIBusId(self, length: int, dev: Any) -> Answer:
        return OK, b"0000:01:00.0".ljust(length, b"\0")

    def cuDeviceGetAttribute(self, attrib: CUdevice_attribute, dev: Any) -> Answer:
        assert isinstance(attrib, CUdevice_attribute)
        return OK, self.gpu.capability["MINOR" in attrib.name]

    def cuDevicePrimaryCtxRetain(self, dev: Any) -> Answer:
        self.gpu.retained += 1
        return OK, Handle(0xC0)

    def cuDevicePrimaryCtxRelease(self, dev: Any) -> Answer:
        self.gpu.retained -= 1
        if self.gpu.retained < 0:
            self.gpu.violate("the primary context was released more often than retained")
        return (OK,)

    def cuCtxPushCurrent(self, ctx: Any) -> Answer:
        if not self.gpu.retained:
            self.gpu.violate("the primary context is made current, but not retained")
        self.stack.append(int(ctx))
        return (OK,)

    def cuCtxPopCurrent(self) -> Answer:
        if not self.stack:
            self.gpu.violate("there is no context to pop")
        return OK, Handle(self.stack.pop())

    # with one

    def _alloc(self, name: str, size: int, kind: str) -> Answer:
        with self.gpu.lock:
            if wrong := self._begin(name, unsafe_in_capture=True):
                return wrong, None
            if size < 1:
                return CUresult.CUDA_ERROR_INVALID_VALUE, None
            if kind == "device" and self.gpu.used + size > self.gpu.capacity:
                return CUresult.CUDA_ERROR_OUT_OF_MEMORY, None
            return OK, self.gpu.allocate(size, kind)

    def _release(self, name: str, pointer: Any, kind: str) -> Answer:
        with self.gpu.lock:
            if wrong := self._begin(name, unsafe_in_capture=True):
                return (wrong,)
            block = self.gpu.blocks.get(int(pointer))
            if block is None or block.kind != kind:
                self.gpu.violate(f"{name}: {int(pointer):#x} is not allocated (freed twice?)")
            for stream in self.gpu.streams.values():  # as CUDA does, it waits for what may use the memory
                self.gpu.drain(stream)
            del self.gpu.blocks[int(pointer)]
            return (OK,)

    def cuMemAlloc(self, bytesize: int) -> Answer:
        status, address = self._alloc("cuMemAlloc", bytesize, "device")
        return status, None if address is None else Handle(address)

    def cuMemFree(self, dptr: Any) -> Answer:
        return self._release("cuMemFree", dptr, "device")

    def cuMemAllocHost(self, bytesize: int) -> Answer:
        return self._alloc("cuMemAllocHost", bytesize, "host")

    def cuMemFreeHost(self, p: Any) -> Answer:
        return self._release("cuMemFreeHost", p, "host")

    def cuMemGetInfo(self) -> Answer:
        if wrong := self._begin("cuMemGetInfo"):
            return wrong, None, None
        return OK, self.gpu.capacity - self.gpu.used, self.gpu.capacity

    def cuPointerGetAttribute(self, attribute: CUpointer_attribute, ptr: Any) -> Answer:
        assert isinstance(attribute, CUpointer_attribute)
        block = self.gpu.block_of(int(ptr))
        if block is None:
            return CUresult.CUDA_ERROR_INVALID_VALUE, None
        if attribute == CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
            return OK, int(block.kind == "other device")
        kinds = CUmemorytype
        return OK, int(kinds.CU_MEMORYTYPE_HOST if block.kind == "host" else kinds.CU_MEMORYTYPE_DEVICE)

    # copies

    def _copy(self, name: str, target: int, source: int, size: int, stream: Any) -> Answer:
        if wrong := self._begin(name):
            return (wrong,)
        gpu, queue = self.gpu, self._stream(stream)
        for address, kind in zip((target, source), {"HtoD": "dh", "DtoH": "hd", "DtoD": "dd"}[name[8:12]], strict=True):
            if kind == "d":
                gpu.check_range(address, size, "device", name)
        on_host = {"HtoD": source, "DtoH": target}.get(name[8:12])
        pinned = on_host is None or gpu.block_of(on_host) is not None
        if queue.captured is not None and not pinned:
            gpu.violate(f"{name}: pageable memory in a capture")
        data = None if pinned or name[8:12] != "HtoD" else raw(source, size).copy()

        def work() -> None:
            for address, what in ((target, "to"), (source, "from")):
                if gpu.block_of(address) is None and address != on_host:
                    gpu.violate(f"{name} {what} {address:#x}, which was freed meanwhile")
            raw(target, size)[:] = raw(source, size) if data is None else data
            gpu.tick(size / MIB / 10)
            gpu.uploaded_bytes += size if name[8:12] == "HtoD" else 0

        gpu.enqueue(queue, work)
        if name[8:12] == "DtoH" and not pinned:
            gpu.drain(queue)  # the call waits
        return (OK,)

    def cuMemcpyHtoDAsync(self, dstDevice: Any, srcHost: Any, ByteCount: int, hStream: Any) -> Answer:
        return self._copy("cuMemcpyHtoDAsync", int(dstDevice), srcHost, ByteCount, hStream)

    def cuMemcpyDtoHAsync(self, dstHost: Any, srcDevice: Any, ByteCount: int, hStream: Any) -> Answer:
        return self._copy("cuMemcpyDtoHAsync", dstHost, int(srcDevice), ByteCount, hStream)

    def cuMemcpyDtoDAsync(self, dstDevice: Any, srcDevice: Any, ByteCount: int, hStream: Any) -> Answer:
        return self._copy("cuMemcpyDtoDAsync", int(dstDevice), int(srcDevice), ByteCount, hStream)
