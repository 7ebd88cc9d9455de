"""What the command-line program shows people, on stderr."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """A console that does not break lines early where it writes to a file."""
    from rich.console import Console

    return Console(stderr=True, width=None if sys.stderr.isatty() else 140)


@contextlib.contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """A line on the terminal that says what is being done: call what this gives with the text."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console(), transient=True) as bar:
        task = bar.add_task("starting")
        yield lambda message: bar.update(task, description=message)
