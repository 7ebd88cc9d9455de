"""The part of the fake driver that is about streams, events and graphs."""

from __future__ import annotations

import threading
from typing import Any

from tests.fakes.cuda_enums import CUevent_flags, CUresult, CUstream_flags, CUstreamCaptureMode
from tests.fakes.gpu import LEGACY, FakeGpu, FakeStream, Marker

OK = CUresult.CUDA_SUCCESS
Answer = tuple[Any, ...]


class Handle:
    """What the bindings wrap a pointer in."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __int__(self) -> int:
        return self._value


class StreamFunctions:
    """Base of the fake driver; ``gpu`` and ``stack`` are its."""

    gpu: FakeGpu
    stack: list[int]

    def _begin(self, name: str, *, unsafe_in_capture: bool = False) -> CUresult | None:
        if not self.stack:
            self.gpu.violations.append(f"{name} without a current context")
            return CUresult.CUDA_ERROR_INVALID_CONTEXT
        if unsafe_in_capture:
            capturing = [s for s in self.gpu.streams.values() if s.forbids(threading.get_ident())]
            for stream in capturing:
                stream.invalidated = True
            if capturing:
                self.gpu.violations.append(f"{name} while a stream is captured")
                return CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
        return None

    def _stream(self, handle: Any) -> FakeStream:
        number = int(handle) or LEGACY
        if number not in self.gpu.streams:
            self.gpu.violate(f"there is no stream {number:#x} (never created, or destroyed)")
        return self.gpu.streams[number]

    def cuStreamCreate(self, Flags: int) -> Answer:
        if wrong := self._begin("cuStreamCreate", unsafe_in_capture=True):
            return wrong, None
        if Flags != CUstream_flags.CU_STREAM_NON_BLOCKING:
            self.gpu.violate("a stream that waits for the legacy default stream")
        number = self.gpu.handle()
        self.gpu.streams[number] = FakeStream()
        return OK, Handle(number)

    def cuStreamDestroy(self, hStream: Any) -> Answer:
        if wrong := self._begin("cuStreamDestroy"):
            return (wrong,)
        self.gpu.drain(self._stream(hStream))
        del self.gpu.streams[int(hStream)]
        return (OK,)

    def cuStreamSynchronize(self, hStream: Any) -> Answer:
        if wrong := self._begin("cuStreamSynchronize", unsafe_in_capture=True):
            return (wrong,)
        self.gpu.drain(self._stream(hStream))
        return (OK,)

    def cuStreamWaitEvent(self, hStream: Any, hEvent: Any, Flags: int) -> Answer:
        if wrong := self._begin("cuStreamWaitEvent"):
            return (wrong,)
        marker = self._event(hEvent)
        if marker is not None:
            self.gpu.enqueue(self._stream(hStream), marker.wait)
        return (OK,)

    # events

    def _event(self, handle: Any) -> Marker | None:
        if int(handle) not in self.gpu.events:
            self.gpu.violate(f"there is no event {int(handle):#x} (never created, or destroyed)")
        return self.gpu.events[int(handle)]

    def cuEventCreate(self, Flags: int) -> Answer:
        if wrong := self._begin("cuEventCreate"):
            return wrong, None
        assert type(Flags) is int
        number = self.gpu.handle()
        self.gpu.events[number] = None
        if Flags == CUevent_flags.CU_EVENT_DEFAULT:
            self.gpu.timed.add(number)
        return OK, Handle(number)

    def cuEventDestroy(self, hEvent: Any) -> Answer:
        if wrong := self._begin("cuEventDestroy"):
            return (wrong,)
        self._event(hEvent)
        del self.gpu.events[int(hEvent)]
        return (OK,)

    def cuEventRecord(self, hEvent: Any, hStream: Any) -> Answer:
        if wrong := self._begin("cuEventRecord"):
            return (wrong,)
        self._event(hEvent)
        stream = self._stream(hStream)
        if stream.captured is not None:
            self.gpu.violate("an event is recorded in a capture, which this fake does not follow")
        marker = self.gpu.events[int(hEvent)] = Marker(stream, self.gpu)
        self.gpu.enqueue(stream, marker.reach)
        return (OK,)

    def cuEventSynchronize(self, hEvent: Any) -> Answer:
        if wrong := self._begin("cuEventSynchronize", unsafe_in_capture=True):
            return (wrong,)
        marker = self._event(hEvent)
        if marker is not None:
            marker.wait()
        return (OK,)

    def cuEventElapsedTime(self, hStart: Any, hEnd: Any) -> Answer:
        if wrong := self._begin("cuEventElapsedTime"):
            return wrong, None
        start, end = self._event(hStart), self._event(hEnd)
        if not {int(hStart), int(hEnd)} <= self.gpu.timed:
            return CUresult.CUDA_ERROR_INVALID_HANDLE, None
        if start is None or end is None or start.time is None or end.time is None:
            self.gpu.violate("the time between events that the device has not reached")
            raise AssertionError
        return OK, end.time - start.time

    # graphs

    def cuStreamBeginCapture(self, hStream: Any, mode: CUstreamCaptureMode) -> Answer:
        if wrong := self._begin("cuStreamBeginCapture"):
            return (wrong,)
        assert isinstance(mode, CUstreamCaptureMode)
        stream = self._stream(hStream)
        if stream.captured is not None or int(hStream) in (0, LEGACY):
            self.gpu.violate("a capture on the default stream, or within a capture")
        stream.captured, stream.capturing_thread, stream.invalidated = [], threading.get_ident(), False
        stream.captures_for_all = mode == CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL
        return (OK,)

    def cuStreamEndCapture(self, hStream: Any) -> Answer:
        if wrong := self._begin("cuStreamEndCapture"):
            return wrong, None
        stream = self._stream(hStream)
        if stream.captured is None or stream.capturing_thread != threading.get_ident():
            self.gpu.violate("the end of a capture that was not begun here")
        work, stream.captured, stream.capturing_thread = stream.captured, None, None
        if stream.invalidated:
            return CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, Handle(0)
        number = self.gpu.handle()
        self.gpu.graphs[number] = work or []
        return OK, Handle(number)

    def cuGraphInstantiate(self, hGraph: Any, flags: int) -> Answer:
        if wrong := self._begin("cuGraphInstantiate"):
            return wrong, None
        number = self.gpu.handle()
        self.gpu.executables[number] = list(self.gpu.graphs[int(hGraph)])
        self.gpu.captures += 1
        return OK, Handle(number)

    def cuGraphDestroy(self, hGraph: Any) -> Answer:
        if int(hGraph) not in self.gpu.graphs:
            return (CUresult.CUDA_ERROR_INVALID_VALUE,)
        del self.gpu.graphs[int(hGraph)]
        return (OK,)

    def cuGraphLaunch(self, hGraphExec: Any, hStream: Any) -> Answer:
        if wrong := self._begin("cuGraphLaunch"):
            return (wrong,)
        if int(hGraphExec) not in self.gpu.executables:
            self.gpu.violate("the launch of a graph that is destroyed")
        stream = self._stream(hStream)
        for work in self.gpu.executables[int(hGraphExec)]:
            self.gpu.enqueue(stream, work)
        self.gpu.launches += 1
        return (OK,)

    def cuGraphExecDestroy(self, hGraphExec: Any) -> Answer:
        if wrong := self._begin("cuGraphExecDestroy"):
            return (wrong,)
        if int(hGraphExec) not in self.gpu.executables:
            self.gpu.violate("a graph is destroyed twice")
        del self.gpu.executables[int(hGraphExec)]
        return (OK,)
