"""One stream of work on an engine, with everything that it needs allocated once."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from sparse_detr_deploy.cuda import CudaError, Event, Stream, order
from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.preprocessing import Feed
from sparse_detr_deploy.runners.device_arrays import DeviceArray, Lease
from sparse_detr_deploy.runners.engine import LoadedEngine
from sparse_detr_deploy.runners.engine_graphs import GraphCache, enqueue
from sparse_detr_deploy.runners.engine_inputs import Binding, InputBuffers
from sparse_detr_deploy.runners.engine_outputs import OutputBuffers, Shapes

_BOUNDARIES = 4  # of the stages: start, uploaded, computed, downloaded


@dataclasses.dataclass(frozen=True)
class StageTimes:
    """Milliseconds of one run: three on the device by CUDA events, and of the host's call that enqueued the engine.

    ``upload`` holds the host's copy into page-locked memory too, where it does not overlap.
    """

    upload: float
    compute: float
    download: float
    enqueue: float


class Execution:
    """Not thread-safe; all calls belong inside ``engine.device.current()``."""

    def __init__(self, engine: LoadedEngine, cuda_graphs: bool, max_graphs: int) -> None:
        """Allocate for the largest shapes of the profile.

        Raises:
            BackendError: memory does not suffice; nothing stays allocated.
        """
        self._engine = engine
        self._bound_key: tuple[Any, ...] | None = None
        self._bound_shapes: Shapes = {}
        self._bound_values: Mapping[str, NDArray[Any]] = {}
        self._held = Binding()
        self._lease = Lease()
        self._events: list[Event] = []
        self._enqueue_ms = 0.0
        self._captures = cuda_graphs and engine.record.flavour == "tensorrt"
        with contextlib.ExitStack() as kept:
            self.stream = Stream(engine.device)
            kept.callback(self.stream.close)
            activations = engine.new_activations()
            kept.callback(activations.close)
            self.graphs = GraphCache(engine, activations, self.stream, max_graphs if self._captures else 0)
            self._inputs = InputBuffers(engine)
            kept.callback(self._inputs.close)
            self._context: Any = engine.new_context(activations, cuda_graphs)
            kept.callback(self._drop_context)
            largest = self._inputs.largest()
            self._outputs = OutputBuffers(engine, largest.apply(self._context, engine))
            self._bound_values = largest.shape_values  # the context knows where they are
            kept.callback(self._outputs.close)
            self._outputs.bind(self._context)
            self._resources = kept.pop_all()

    def _drop_context(self) -> None:
        self._context = None

    def run(self, feed: Mapping[str, Any]) -> Feed:
        """Outputs on the host."""
        shapes = self._submit(feed)
        arrays = self._outputs.download(shapes, self.stream)
        self._mark(3)
        self.stream.synchronize()
        return {name: array.copy() for name, array in arrays.items()}

    def run_device(self, feed: Mapping[str, Any], stream: int | None) -> dict[str, DeviceArray]:
        """Outputs on the device; ``stream`` (a handle) waits for them, or else the caller does."""
        shapes = self._submit(feed)
        self._mark(3)
        if stream is None:
            self.stream.synchronize()
        else:
            order(self._engine.device, self.stream.address, stream)
            self._lease.consumers.add(stream)
        return self._outputs.lend(shapes, self.stream, self._lease, synced=stream is None)

    def _submit(self, feed: Mapping[str, Any]) -> Shapes:
        """Enqueue everything but the way back. Nothing is enqueued where the feed is refused."""
        binding = self._inputs.bind(feed, self.stream)
        try:
            captured = self.graphs.find(binding)
            fresh = None
            if captured is None and self.graphs.comes_again(binding):
                fresh = self.graphs.new_context(binding, self._outputs)
            context, shapes = fresh or (self._context, captured.shapes if captured else self._apply(binding))
            self._lease.valid = False
            while self._lease.consumers:
                self.stream.wait_for(self._lease.consumers.pop())  # which may still read the outputs
            self._lease = Lease()
            self._mark(0)
            self._inputs.upload(binding, self.stream)
            self._mark(1)
            started = time.perf_counter()
            if captured:
                captured.graph.launch(self.stream.address)
            else:
                enqueue(context, self._engine, self.stream)
            self._enqueue_ms = 1e3 * (time.perf_counter() - started)
            self._mark(2)
            if fresh:
                self.graphs.capture(binding, context, shapes)
        except BaseException:
            with contextlib.suppress(CudaError):  # the first error is the one to tell
                self.stream.synchronize()  # what is enqueued may use borrowed inputs, and a context that goes now
            binding.release()
            raise
        self._held.release()
        self._held = binding
        return shapes

    def _apply(self, binding: Binding) -> Shapes:
        """Bind the general context, if it is not bound so already."""
        if self._bound_key != binding.key:
            self._bound_key = None  # a binding that is refused leaves the context in between
            self._bound_shapes = binding.apply(self._context, self._engine)
            self._bound_key, self._bound_values = binding.key, binding.shape_values
        return self._bound_shapes

    def record_stages(self) -> None:
        """Let :meth:`stage_times` tell of every run from now on."""
        while len(self._events) < _BOUNDARIES:
            event = Event(self._engine.device, timing=True)
            self._resources.callback(event.close)
            self._events.append(event)

    def stage_times(self) -> StageTimes:
        """Of the last run; waits until it is done."""
        if len(self._events) < _BOUNDARIES:
            raise BackendError("the stages are not recorded: call record_stages() before the run")
        self._events[-1].synchronize()
        upload, compute, download = (later.milliseconds_since(one) for one, later in itertools.pairwise(self._events))
        return StageTimes(upload, compute, download, self._enqueue_ms)

    def _mark(self, boundary: int) -> None:
        if self._events:
            self._events[boundary].record(self.stream.address)

    def close(self) -> None:
        """Free everything, after what is under way."""
        self._lease.valid = False
        with contextlib.suppress(BackendError):  # a device that failed must not keep the rest from being freed
            self.stream.synchronize()
        self._held.release()
        try:
            self.graphs.close()
        finally:
            self._resources.close()
