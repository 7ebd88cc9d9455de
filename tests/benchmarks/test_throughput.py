"""Several contexts of one engine at once, on a clock of its own."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from sparse_detr_deploy.benchmarks import engine_timing
from sparse_detr_deploy.benchmarks.engine_timing import Throughput, measure_throughput

WARMUP, ROUNDS = 3, 4


class Runner:
    """Counts its runs. Those that count wait for the same one of all other contexts, so that they must run at once."""

    def __init__(self, family: Family) -> None:
        self.family, self.runs, self.closed = family, 0, False
        family.runners.append(self)

    def clone(self) -> Runner:
        return Runner(self.family)

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *error: object) -> None:
        self.closed = True

    def run(self, feed: Any) -> None:
        assert feed is self.family.feed
        self.runs += 1
        self.family.run()


class Family:
    """A runner and its clones. Of ``at_once`` contexts every run but the warm-up takes part in a meeting."""

    def __init__(self) -> None:
        self.feed: dict[str, Any] = {}
        self.runners: list[Runner] = []
        self.meeting = threading.Barrier(1)
        self.warm_ups = 0
        self._lock = threading.Lock()

    def run(self) -> None:
        with self._lock:
            self.warm_ups -= 1
            warms_up = self.warm_ups >= 0
        if not warms_up:
            self.meeting.wait(10)


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Family:
    """The clock goes on by 5 seconds from one look at it to the next."""
    looks = iter(range(0, 1000, 5))
    monkeypatch.setattr(engine_timing, "time", SimpleNamespace(perf_counter=lambda: float(next(looks))))
    return Family()


def measure(family: Family, count: int, batch: int = 1) -> Throughput:
    family.meeting, family.warm_ups = threading.Barrier(count), WARMUP * count
    first: Any = family.runners[0] if family.runners else Runner(family)
    (found,) = measure_throughput(first, family.feed, [count], batch, ROUNDS)
    return found


@pytest.mark.parametrize(("count", "batch", "rate"), [(1, 1, 0.8), (1, 2, 1.6), (2, 1, 1.6), (3, 2, 4.8)])
def test_throughput_counts_every_image_of_every_context(family: Family, count: int, batch: int, rate: float) -> None:
    assert measure(family, count, batch) == Throughput(count, pytest.approx(rate))  # in 5 seconds
    assert [runner.runs for runner in family.runners] == [WARMUP + ROUNDS] * count


def test_contexts_are_cloned_once_and_closed(family: Family) -> None:
    family.warm_ups = 1000  # nobody waits for anybody
    first: Any = Runner(family)
    found = measure_throughput(first, family.feed, [1, 3, 2], 1, ROUNDS)
    assert [(one.contexts, one.images_per_second) for one in found] == [
        (1, pytest.approx(0.8)),
        (3, pytest.approx(2.4)),
        (2, pytest.approx(1.6)),
    ]
    assert [runner.closed for runner in family.runners] == [False, True, True]
    assert [runner.runs for runner in family.runners] == [21, 14, 7]


def test_a_context_that_fails_is_told(family: Family) -> None:
    family.warm_ups = 1000
    first: Any = Runner(family)

    def fails_late(feed: Any) -> None:
        first.runs += 1
        if first.runs == WARMUP + 2:
            raise RuntimeError("cannot run it")

    first.run = fails_late
    with pytest.raises(RuntimeError, match="cannot run it"):
        measure_throughput(first, family.feed, [2], 1, ROUNDS)
    assert [runner.closed for runner in family.runners] == [False, True]
