"""A fake GPU: memory, and streams whose work is done as late as CUDA allows, so that a missing wait shows."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIB = 2**20
POISON = 0xCB
LEGACY, PER_THREAD = 1, 2
COMPUTE_MS = 5.0


def raw(address: int, size: int) -> NDArray[np.uint8]:
    """Bytes of this process."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


class Violation(AssertionError):
    """Something that is undefined behaviour on a GPU."""


class Block:
    """An allocation, filled with nonsense."""

    def __init__(self, size: int, kind: str) -> None:
        self.size, self.kind = size, kind
        self._bytes = np.full(size + 256, POISON, dtype=np.uint8)
        self.address = -(-self._bytes.ctypes.data // 256) * 256


class Marker:
    """Where an event was recorded."""

    def __init__(self, stream: FakeStream, gpu: FakeGpu) -> None:
        self.stream, self.gpu = stream, gpu
        self.time: float | None = None

    def reach(self) -> None:
        self.time = self.gpu.clock

    def wait(self) -> None:
        """Let the stream work until here."""
        with self.gpu.lock:
            while self.time is None and self.stream.pending:
                self.stream.pending.pop(0)()


class FakeStream:
    """Work in order; ``captured`` collects instead where a capture is under way."""

    def __init__(self) -> None:
        self.pending: list[Callable[[], None]] = []
        self.captured: list[Callable[[], None]] | None = None
        self.capturing_thread: int | None = None
        self.captures_for_all = False
        self.invalidated = False

    def forbids(self, thread: int) -> bool:
        """Whether a capture keeps ``thread`` from calls that may not be captured."""
        return self.capturing_thread is not None and (self.captures_for_all or self.capturing_thread == thread)


class FakeGpu:
    """State of one device. ``violations`` must be empty and ``live`` all zero at the end of a test."""

    def __init__(self, capacity_mib: int = 4096, capability: tuple[int, int] = (8, 9)) -> None:
        self.capacity = capacity_mib * MIB
        self.capability = capability
        self.lock = threading.RLock()
        self.blocks: dict[int, Block] = {}
        self.streams: dict[int, FakeStream] = {LEGACY: FakeStream(), PER_THREAD: FakeStream()}
        self.events: dict[int, Marker | None] = {}
        self.timed: set[int] = set()  # events that tell time
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.executables: dict[int, list[Callable[[], None]]] = {}
        self.retained = 0
        self.engines = 0
        self.contexts = 0
        self.clock = 0.0
        self.violations: list[str] = []
        self.launches = 0
        self.captures = 0
        self.uploaded_bytes = 0
        self._next = 0x7000

    def handle(self) -> int:
        self._next += 16
        return self._next

    def violate(self, what: str) -> None:
        """Note it even where the caller swallows the exception."""
        self.violations.append(what)
        raise Violation(what)

    @property
    def used(self) -> int:
        return sum(block.size for block in self.blocks.values() if block.kind == "device")

    def live(self) -> dict[str, int]:
        """What is allocated."""
        return {
            "device": sum(block.kind == "device" for block in self.blocks.values()),
            "host": sum(block.kind == "host" for block in self.blocks.values()),
            "streams": len(self.streams) - 2,
            "events": len(self.events),
            "graphs": len(self.graphs),
            "executables": len(self.executables),
            "retained": self.retained,
            "engines": self.engines,
            "contexts": self.contexts,
        }

    def allocate(self, size: int, kind: str) -> int:
        block = Block(size, kind)
        self.blocks[block.address] = block
        return block.address

    def block_of(self, address: int) -> Block | None:
        return next((b for b in self.blocks.values() if b.address <= address < b.address + b.size), None)

    def check_range(self, address: int, size: int, kind: str, what: str) -> None:
        block = self.block_of(address)
        if block is None or block.kind != kind:
            self.violate(f"{what}: {address:#x} is not {kind} memory (never allocated, or freed)")
        elif address + size > block.address + block.size:
            self.violate(f"{what}: {size} bytes at {address:#x} reach beyond the {block.size} bytes of the allocation")

    def enqueue(self, stream: FakeStream, work: Callable[[], None]) -> None:
        (stream.pending if stream.captured is None else stream.captured).append(work)

    def drain(self, stream: FakeStream) -> None:
        """Do the stream's work."""
        with self.lock:
            while stream.pending:
                stream.pending.pop(0)()

    def tick(self, milliseconds: float) -> None:
        self.clock += milliseconds


def as_array(address: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array where memory of the fake GPU is."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    return raw(address, size).view(dtype).reshape(shape)
