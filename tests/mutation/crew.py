"""Copies of the tree that try faults side by side."""

from __future__ import annotations

import concurrent.futures
import contextlib
import queue
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from tests.mutation.trial import PRELOADED, Bench

Task = TypeVar("Task")
Result = TypeVar("Result")


class Crew:
    """As many copies as there are to be runs at a time; what is planted in one is not seen in the others."""

    def __init__(self, benches: Sequence[Bench]) -> None:
        self._free: queue.SimpleQueue[Bench] = queue.SimpleQueue()
        for bench in benches:
            self._free.put(bench)
        self._size = len(benches)

    def map(self, work: Callable[[Bench, Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[Task, Result]]:
        """Each task with its result, in the order in which they end; the first error ends it all."""
        pool = concurrent.futures.ThreadPoolExecutor(self._size)
        try:
            running = {pool.submit(self._one, work, task): task for task in tasks}
            for done in concurrent.futures.as_completed(running):
                yield running[done], done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # what runs yet ends with its process

    def _one(self, work: Callable[[Bench, Task], Result], task: Task) -> Result:
        bench = self._free.get()
        try:
            return work(bench, task)
        finally:
            self._free.put(bench)


@contextlib.contextmanager
def crew(root: Path, size: int, preloaded: Sequence[str] = PRELOADED) -> Iterator[Crew]:
    """Make the copies, in a folder that is removed again."""
    clean: dict[tuple[str, ...], float] = {}  # what one has found out, the others know
    with (
        tempfile.TemporaryDirectory(prefix="mutation-", ignore_cleanup_errors=True) as folder,
        contextlib.ExitStack() as stack,
    ):
        yield Crew([stack.enter_context(Bench(root, Path(folder, str(i)), preloaded, clean)) for i in range(size)])
