"""Runs a target on many cases and keeps what it should not have done.

A target may accept its input or refuse it by an error of the toolkit. Anything else is a failure: another exception, a
broken property of what was accepted (``AssertionError``), a warning of NumPy, a hang, or memory out of proportion.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import signal
import tempfile
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from sparse_detr_deploy.errors import SparseDetrError
from tests.fuzz.mutation import Mutator

CASES_OF_WEIGHT_ONE = 100
HANG_SECONDS = 15
_OUT_OF_MEMORY = re.compile("out of memory|insufficient memory|allocate|bad_alloc", re.IGNORECASE)
MEMORY_MARGIN = 4 * 2**30


@dataclasses.dataclass(frozen=True)
class Case:
    """One input to make: ``mutated`` from a valid one, or made from nothing. ``folder`` is for its files."""

    mutator: Mutator
    mutated: bool
    folder: Path


@dataclasses.dataclass(frozen=True)
class Target:
    """Something that takes foreign input: ``run`` makes the input of a case, gives it to the toolkit, and asserts what
    must hold of what was accepted."""

    name: str
    run: Callable[[Case], None]
    weight: int
    never_refuses: bool = False


@dataclasses.dataclass(frozen=True)
class Failure:
    """A case that ended neither well nor in an error of the toolkit."""

    target: str
    index: int
    kind: str
    trace: str

    def __str__(self) -> str:
        return f"{self.target} case {self.index}: {self.kind}\n  again: python -m tests.fuzz {self.target} {self.index}"


@dataclasses.dataclass
class Outcome:
    """Counts of one target."""

    cases: int = 0
    mutated: int = 0
    accepted: int = 0
    refused: int = 0
    failures: list[Failure] = dataclasses.field(default_factory=list)


class Hang(BaseException):
    """A case took longer than any should."""


def run(target: Target, indices: range, folder: Path, stop_at: int = 20) -> Outcome:
    """Run cases of ``target``, until ``stop_at`` of them failed; even ones are mutated valid inputs."""
    outcome = Outcome()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RuntimeWarning)
        for index in indices:
            _run_case(target, index, folder, outcome)
            if len(outcome.failures) >= stop_at:
                break
    return outcome


def _run_case(target: Target, index: int, folder: Path, outcome: Outcome) -> None:
    seed = zlib.crc32(f"{target.name} {index}".encode())
    case = Case(Mutator(seed), index % 2 == 0, folder)
    outcome.cases += 1
    outcome.mutated += case.mutated
    try:
        with _limit():
            target.run(case)
        outcome.accepted += 1
    except SparseDetrError as error:
        if _OUT_OF_MEMORY.search(str(error)):  # refused when it was too late
            outcome.failures.append(Failure(target.name, index, str(error)[:200], traceback.format_exc()))
        outcome.refused += 1
    except (Exception, Hang) as error:
        shown = f"{type(error).__name__}: {str(error)[:200]}"
        outcome.failures.append(Failure(target.name, index, shown, traceback.format_exc()))


@contextlib.contextmanager
def _limit() -> Iterator[None]:
    def handle(number: int, frame: FrameType | None) -> None:
        raise Hang(f"no end within {HANG_SECONDS} s")

    previous = signal.signal(signal.SIGALRM, handle)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


@contextlib.contextmanager
def bounded_memory(margin: int = MEMORY_MARGIN) -> Iterator[None]:
    """``MemoryError`` where the process grows by more than ``margin`` bytes of address space; not bounded off Linux."""
    if not Path("/proc/self/statm").exists():
        yield
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + margin, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """A folder for the files of the cases."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        yield Path(folder)
