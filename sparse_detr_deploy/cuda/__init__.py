"""CUDA behind one interface: a device, and memory, streams, events and graphs on it. All by cuda-bindings.

The driver API and not the runtime's: it says exactly which context is current, so that other libraries in the process
(torch, cupy, pycuda) keep theirs, and one build of the bindings runs on older drivers.

Every object has a ``close`` that may be called again. Except for :class:`Device`, all calls belong inside
``with device.current():``.
"""

from sparse_detr_deploy.cuda.device import CudaError, Device
from sparse_detr_deploy.cuda.memory import DeviceBuffer, HostBuffer
from sparse_detr_deploy.cuda.streams import LEGACY_STREAM, Event, Graph, Stream, order

__all__ = ["LEGACY_STREAM", "CudaError", "Device", "DeviceBuffer", "Event", "Graph", "HostBuffer", "Stream", "order"]
