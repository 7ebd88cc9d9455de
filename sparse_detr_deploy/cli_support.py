"""What the command-line programs share: errors as messages with an exit code, text for people on stderr."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from sparse_detr_deploy.errors import INTERRUPTED_EXIT_CODE, SparseDetrError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_TURNS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # of the direction of text
_Function = TypeVar("_Function", bound=Callable[..., Any])

TERMINATED_EXIT_CODE = 143
CHILDREN_TIMEOUT = 10.0  # seconds that child processes have to do what Ctrl-C does
EXIT_CODES = (
    "Exit codes: 0 done, 2 unusable input, 3 checkpoint, 4 artefact, 5 verification, 6 output cannot be written, "
    "7 runtime backend, 8 regression, 9 training diverged, 130 interrupted, 143 terminated."
)


def reports_errors(function: _Function) -> _Function:
    """Turn an error of the toolkit into its message and exit code; anything else is a bug and keeps its traceback.

    SIGTERM (``docker stop``, ``timeout``, a cancelled CI job) ends the program as Ctrl-C does, with its own exit code.
    Processes that :mod:`multiprocessing` started end with it, those that do not within ten seconds by SIGTERM.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with _interrupts_on_sigterm() as terminated:
            try:
                return function(*args, **kwargs)
            except SparseDetrError as error:
                print(printable(f"error: {error}"), file=sys.stderr)
                sys.exit(error.exit_code)
            except KeyboardInterrupt:
                print(f"{'terminated' if terminated else 'interrupted'}; nothing half-written is left", file=sys.stderr)
                sys.exit(TERMINATED_EXIT_CODE if terminated else INTERRUPTED_EXIT_CODE)

    return wrapper  # type: ignore[return-value]


def printable(text: str) -> str:
    """``text`` for people: what would drive a terminal, or has no place in UTF-8, as an escape such as ``\\x1b``.

    Names come from files and folders of anybody. Line breaks and tabs stay.
    """
    return "".join(ascii(char)[1:-1] if _is_hidden(char) else char for char in text)


def _is_hidden(char: str) -> bool:
    return char not in "\n\t" and (unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _TURNS)


def console_for_people(stderr: bool = True, width: int = 160) -> Console:
    """A console that prints text as it is: ``[red]`` in a name is no colour, ``:smile:`` no picture.

    Args:
        stderr: print there, else on stdout.
        width: of lines where it is no terminal, wide enough for a table.
    """
    from rich.console import Console

    class PlainConsole(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text), **options)

    stream = sys.stderr if stderr else sys.stdout
    return PlainConsole(stderr=stderr, width=None if stream.isatty() else width, markup=False, emoji=False)


@contextlib.contextmanager
def progress_line(console: Console, refresh_per_second: float = 10) -> Iterator[Callable[[str], None]]:
    """A line on the terminal that says what is being done: call what this gives with the text."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=refresh_per_second) as bar:
        task = bar.add_task("starting")
        yield lambda text: bar.update(task, description=printable(text))


@contextlib.contextmanager
def _interrupts_on_sigterm() -> Iterator[list[int]]:
    """SIGTERM does what Ctrl-C would at that moment; gives a list that is empty until then.

    Nothing is changed in other threads than the main one, which have no say in signals, where SIGTERM is ignored, and
    where its handler was not installed from Python.
    """
    terminated: list[int] = []
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) in (None, signal.SIG_IGN):
        yield terminated
        return
    process = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked child
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            return
        signal.signal(number, signal.SIG_IGN)  # a second one must not disturb the clean-up
        terminated.append(number)
        interrupt = signal.getsignal(signal.SIGINT)
        # a terminal sends Ctrl-C to the processes that this one started as well, and it would wait for them
        children = multiprocessing.active_children()
        for child in children:
            if child.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGTERM if interrupt is signal.SIG_IGN else signal.SIGINT)
        # Python now and then loses a Ctrl-C that comes while it imports: KeyboardInterrupt in a callback is ignored
        if children:
            insist = threading.Timer(CHILDREN_TIMEOUT, _terminate, (children,))
            insist.daemon = True
            insist.start()
        if callable(interrupt):
            interrupt(signal.SIGINT, frame)
        else:  # Ctrl-C is ignored, or left to the system
            raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, handle)
    try:
        yield terminated
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminate(children: list[multiprocessing.process.BaseProcess]) -> None:
    for child in children:
        with contextlib.suppress(OSError, ValueError):  # it has ended, or was closed
            child.terminate()
