"""CUDA graphs of an engine, one for each binding that comes again.

A graph holds the state of the context that it was captured from, which must not change any more: so each has a context
of its own. Their activations lie in one place, since one stream runs one at a time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from sparse_detr_deploy.cuda import CudaError, DeviceBuffer, Graph, Stream
from sparse_detr_deploy.errors import BackendError, SparseDetrError
from sparse_detr_deploy.runners.engine import LoadedEngine
from sparse_detr_deploy.runners.engine_inputs import Binding
from sparse_detr_deploy.runners.engine_outputs import OutputBuffers, Shapes

_log = logging.getLogger(__name__)
_REMEMBERED = 64  # bindings that were seen once


@dataclasses.dataclass
class Captured:
    """A graph, and what must live as long as it."""

    graph: Graph
    shapes: Shapes
    context: Any
    shape_values: Mapping[str, NDArray[Any]]


class GraphCache:
    """Captures a binding when it comes the second time: a stream of ever new addresses or ratios is never captured."""

    def __init__(self, engine: LoadedEngine, activations: DeviceBuffer, stream: Stream, limit: int) -> None:
        self.failure: str | None = None
        self._engine, self._activations, self._stream, self._limit = engine, activations, stream, limit
        self._captured: OrderedDict[tuple[Any, ...], Captured] = OrderedDict()
        self._seen: OrderedDict[tuple[Any, ...], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._captured)

    def find(self, binding: Binding) -> Captured | None:
        """What was captured of the binding."""
        captured = self._captured.get(binding.key)
        if captured is not None:
            self._captured.move_to_end(binding.key)
        return captured

    def comes_again(self, binding: Binding) -> bool:
        """Whether it is to be captured now."""
        if self._limit < 1 or self.failure is not None:
            return False
        if binding.key in self._seen:
            return True
        self._seen[binding.key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return False

    def new_context(self, binding: Binding, outputs: OutputBuffers) -> tuple[Any, Shapes] | None:
        """A context bound to it, to be run once before :meth:`capture`; ``None`` where there is no room for one."""
        try:
            context = self._engine.new_context(self._activations, cuda_graphs=True)
            shapes = binding.apply(context, self._engine)
            outputs.bind(context)
        except SparseDetrError as error:
            self._give_up(error)
            return None
        return context, shapes

    def capture(self, binding: Binding, context: Any, shapes: Shapes) -> None:
        """Capture what ``context`` has just run. A failure is logged, and nothing is captured any more."""
        graphs: list[Graph] = []
        try:
            with self._stream.capturing(graphs):
                enqueue(context, self._engine, self._stream)
        except SparseDetrError as error:
            self._give_up(error)
            with contextlib.suppress(CudaError):  # the next call of the stream tells of it
                self._stream.synchronize()  # the run before the capture still uses the context, which goes now
            return
        while len(self._captured) >= self._limit:
            self._stream.synchronize()
            self._captured.popitem(last=False)[1].graph.close()
        self._seen.pop(binding.key, None)
        self._captured[binding.key] = Captured(graphs[0], shapes, context, binding.shape_values)

    def _give_up(self, error: SparseDetrError) -> None:
        self.failure = str(error)
        # the text only: a record that somebody keeps would keep the exception, its frames and their context
        _log.warning("%s runs without CUDA graphs from now on: %s", self._engine.path, self.failure)

    def close(self) -> None:
        """Free them."""
        while self._captured:
            self._captured.popitem()[1].graph.close()


def enqueue(context: Any, engine: LoadedEngine, stream: Stream) -> None:
    """Put a bound context's work on the stream. Raises :class:`BackendError`."""
    engine.logger.take()
    try:
        done = context.execute_async_v3(stream.address)
    except RuntimeError as error:
        raise BackendError(f"{engine.path}: TensorRT cannot run it ({error})") from error
    if not done:
        raise BackendError(f"{engine.path}: TensorRT cannot run it ({engine.logger.take()})")
