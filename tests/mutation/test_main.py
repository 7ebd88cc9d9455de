"""What the program says, and when it fails."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mutation import __main__ as program
from tests.mutation.faults import Edit, Fault
from tests.mutation.trial import NotClean, Outcome, Trial


class FakeCrew:
    """Benches that say what becomes of every fault."""

    def __init__(self, outcome: Outcome | None) -> None:
        self.outcome = outcome

    def map(self, work: Callable[[Any, Any], Any], tasks: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        for task in tasks:
            yield task, None if isinstance(task, tuple) else work(self, task)

    def try_fault(self, *_: Any) -> Trial:
        if self.outcome is None:
            raise NotClean("test_x fails anyway")
        return Trial(self.outcome, 1.0, 1.0, "")


def run(monkeypatch: pytest.MonkeyPatch, outcome: Outcome | None, *arguments: str) -> int:
    monkeypatch.setattr(program, "crew", lambda *_: contextlib.nullcontext(FakeCrew(outcome)))
    monkeypatch.setattr(program, "read_survivors", lambda: [])
    edit = Edit("Makefile", "PYTHON ?=", "PYTHON =")
    monkeypatch.setattr(program, "read_faults", lambda: [Fault("the fault", (edit,), ("tests/x.py",))])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return program.main(arguments)


@pytest.mark.parametrize(
    ("outcome", "status"), [(Outcome.CAUGHT, 0), (Outcome.TIMED_OUT, 0), (Outcome.SURVIVED, 1), (None, 1)]
)
def test_exit_status(outcome: Outcome | None, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run(monkeypatch, outcome, "faults") == status
    sample = ("sample", "--count", "2", "--only", "statistics", "--output", str(tmp_path))
    assert run(monkeypatch, outcome, *sample) == status
    assert (tmp_path / "mutants.json").exists() == (outcome is not None)


def test_a_fault_that_is_not_caught_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, Outcome.SURVIVED, "faults")
    assert "NOT CAUGHT: the fault: tests/x.py\n1 listed faults, 1 not caught" in capsys.readouterr().out


def test_a_sample_can_be_looked_at(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, None, "--list", "--count", "3", "--only", "statistics", "--seed", "4") == 0
    assert len(re.findall(r"^benchmarks/\w+\.py:\d+ ", capsys.readouterr().out, re.MULTILINE)) == 3
