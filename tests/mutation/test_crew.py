"""Each copy does one thing at a time, and all of them work."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.mutation.crew import Crew


def test_tasks_are_shared() -> None:
    together, used = threading.Barrier(2, timeout=60), []

    def work(bench: Any, task: int) -> str:
        if task < 2:
            together.wait()  # both are at work, or this raises
        used.append(bench)
        return f"{task} of {bench}"

    found = dict(Crew(["a", "b"]).map(work, range(8)))  # type: ignore[list-item]
    assert sorted(found) == list(range(8))
    assert all(result in (f"{task} of a", f"{task} of b") for task, result in found.items())
    assert set(used) == {"a", "b"}


def test_an_error_ends_it() -> None:
    done, ended = [], threading.Event()

    def work(bench: Any, task: int) -> None:
        done.append(task)
        if task == 1:
            raise ValueError("one")
        if task > 1:
            ended.wait(60)

    with pytest.raises(ValueError, match="one"):
        list(Crew(["a"]).map(work, range(9)))  # type: ignore[list-item]
    ended.set()
    assert set(done) <= {0, 1, 2}
