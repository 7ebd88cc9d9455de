"""Streams, events and graphs. Streams of other libraries come as handles: numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sparse_detr_deploy.cuda.device import CudaError, Device, Handle

LEGACY_STREAM = 1  # the default stream, as a handle of the driver, of __cuda_array_interface__ and of DLPack


class Event(Handle):
    """A point in a stream; ``timing`` makes :meth:`milliseconds_since` possible."""

    _free = "cuEventDestroy"

    def __init__(self, device: Device, timing: bool = False) -> None:
        flags = device.driver.CUevent_flags
        flag = flags.CU_EVENT_DEFAULT if timing else flags.CU_EVENT_DISABLE_TIMING
        super().__init__(device, device.call("cuEventCreate", int(flag)))

    def record(self, stream: int) -> None:
        """Put the event behind what is on ``stream`` (a handle) now."""
        self.device.call("cuEventRecord", self.address, stream)

    def synchronize(self) -> None:
        """Wait until the device has reached it."""
        self.device.call("cuEventSynchronize", self.address)

    def milliseconds_since(self, earlier: Event) -> float:
        """Time on the device between two events that it has reached."""
        return float(self.device.call("cuEventElapsedTime", earlier.address, self.address))


class Graph(Handle):
    """Work captured from a stream, launched as one."""

    _free = "cuGraphExecDestroy"

    def launch(self, stream: int) -> None:
        """Enqueue all of it on ``stream`` (a handle)."""
        self.device.call("cuGraphLaunch", self.address, stream)


class Stream(Handle):
    """A queue of work that does not wait for the legacy default stream."""

    _free = "cuStreamDestroy"

    def __init__(self, device: Device) -> None:
        flag = device.driver.CUstream_flags.CU_STREAM_NON_BLOCKING
        super().__init__(device, device.call("cuStreamCreate", int(flag)))

    def upload(self, target: int, source: int, size: int) -> None:
        """Copy ``size`` bytes from the host to the device."""
        self.device.call("cuMemcpyHtoDAsync", target, source, size, self.address)

    def download(self, target: int, source: int, size: int) -> None:
        """Copy ``size`` bytes from the device to the host."""
        self.device.call("cuMemcpyDtoHAsync", target, source, size, self.address)

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy ``size`` bytes on the device."""
        self.device.call("cuMemcpyDtoDAsync", target, source, size, self.address)

    def synchronize(self) -> None:
        """Wait until all of it is done; :class:`CudaError` if something in it failed."""
        self.device.call("cuStreamSynchronize", self.address)

    def wait_for(self, stream: int) -> None:
        """Let what comes wait for what is on another stream (a handle) now."""
        order(self.device, stream, self.address)

    @contextlib.contextmanager
    def capturing(self, graphs: list[Graph]) -> Iterator[None]:
        """Collect what is enqueued inside, instead of running it, as a :class:`Graph` appended to ``graphs``."""
        driver = self.device.driver
        # of this thread only: another thread may allocate meanwhile
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self.device.call("cuStreamBeginCapture", self.address, mode)
        try:
            yield
        except BaseException:
            with contextlib.suppress(CudaError):  # the stream leaves the capture; the first error is the one to tell
                self.device.call("cuGraphDestroy", self.device.call("cuStreamEndCapture", self.address))
            raise
        graph = self.device.call("cuStreamEndCapture", self.address)
        try:
            graphs.append(Graph(self.device, self.device.call("cuGraphInstantiate", graph, 0)))
        finally:
            self.device.call("cuGraphDestroy", graph)


def order(device: Device, first: int, then: int) -> None:
    """Let what comes on the stream ``then`` wait for what is on ``first`` now (handles)."""
    event = Event(device)
    try:
        event.record(first)
        device.call("cuStreamWaitEvent", then, event.address, 0)
    finally:
        event.close()  # the driver keeps it until it is reached
