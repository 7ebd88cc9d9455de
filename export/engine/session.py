"""What TensorRT calls back while it works: its log, and its progress, by which a build can be stopped."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

_log = logging.getLogger(__name__)
_LEVELS = {"INTERNAL_ERROR": logging.ERROR, "ERROR": logging.ERROR, "WARNING": logging.INFO}
_SHOWN = 3


class Messages:
    """Errors that TensorRT logged: what makes a message of ours say why something failed."""

    def __init__(self) -> None:
        self._errors: list[str] = []
        self._lock = threading.Lock()

    def add(self, severity: str, text: str) -> None:
        """Keep an error; everything goes to Python's logging (warnings as information: most are of no use)."""
        level = _LEVELS.get(severity, logging.DEBUG)
        _log.log(level if level != logging.ERROR else logging.DEBUG, "%s", text)
        if level == logging.ERROR:
            with self._lock:
                self._errors.append(" ".join(text.split()))

    def clear(self) -> None:
        """Forget the errors of what was done before."""
        with self._lock:
            self._errors.clear()

    def reason(self, *further: str) -> str:
        """The first errors in one line, after ``further`` ones (those of the parser)."""
        with self._lock:
            errors = list(dict.fromkeys([*(" ".join(text.split()) for text in further), *self._errors]))
        shown = "; ".join(errors[:_SHOWN]) or "it gives no reason"
        return f"{shown}; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else shown


def make_logger(trt: Any, messages: Messages) -> Any:
    """A logger of module ``trt`` that fills ``messages``."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            messages.add(severity.name, text)

    return Logger()


def make_monitor(trt: Any, cancelled: threading.Event, progress: Callable[[str], None]) -> Any:
    """A progress monitor that tells ``progress`` the outermost phase and stops the build once ``cancelled`` is set."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._outer: set[str] = set()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            if parent_phase is None:
                self._outer.add(phase_name)
                progress(phase_name)

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)
            self._outer.discard(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._outer:
                progress(f"{phase_name}, step {step + 1} of {self._steps[phase_name]}")
            return not cancelled.is_set()

    return Monitor()


def interruptible(work: Callable[[], Any], cancelled: threading.Event) -> Any:
    """What ``work`` returns or raises. Ctrl-C sets ``cancelled``, waits until ``work`` ends, and is raised then.

    The work is done in a thread of its own, because native code does not notice Ctrl-C; and no ``KeyboardInterrupt``
    is raised meanwhile, because in a callback it would be lost, and elsewhere leave the thread behind.
    """
    result: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="engine build")
    with _sets_on_interrupt(cancelled):
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
    if cancelled.is_set():
        raise KeyboardInterrupt
    if failure:
        raise failure[0]
    return result[0]


@contextlib.contextmanager
def _sets_on_interrupt(event: threading.Event) -> Iterator[None]:
    """Ctrl-C sets ``event`` and nothing else; only the main thread has a say in signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, lambda number, frame: event.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
