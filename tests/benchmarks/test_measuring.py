"""Round-robin timing, on a clock of its own."""

from __future__ import annotations

import collections
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sparse_detr_deploy.benchmarks import measuring
from sparse_detr_deploy.benchmarks.measuring import PARTS, Samples, measure, rotations, time_call
from tests.benchmarks.fake_detector import FakeClock, FakeDetector

IMAGES = [np.full((2, 3, 3), value, dtype=np.uint8) for value in range(3)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr(measuring, "time", SimpleNamespace(perf_counter=clock))
    return clock


def contender(name: str, ratio: float | None, batch: int = 1) -> Any:
    return SimpleNamespace(path=Path(name), keep_ratio=ratio, batch=batch, title=f"{name} at {ratio}")


def test_each_part_has_its_own_time(clock: FakeClock) -> None:
    """Seconds 1, 20 and 300, so that no two of them, nor their sums, can be taken for each other."""
    detector: Any = FakeDetector(clock, preprocess=1.0, inference=20.0, postprocess=300.0)
    assert time_call(detector, IMAGES[:2], 0.25) == (1e3, 20e3, 300e3)
    assert detector.calls == [(0.25, (0, 1))]
    assert detector.sizes == [[(2, 3), (2, 3)]]


def test_samples_are_of_the_call_that_counts(clock: FakeClock) -> None:
    """The second of each turn: the first is ten times as long here."""
    detector: Any = FakeDetector(clock, preprocess=1.0, inference=20.0, postprocess=300.0, first=10.0)
    (samples,) = measure([contender("a", None)], {Path("a"): detector}, IMAGES, warmup=1, rounds=2)
    assert samples == Samples([1e3] * 2, [20e3] * 2, [300e3] * 2)
    assert [samples.of(part) for part in PARTS] == [[1e3] * 2, [20e3] * 2, [300e3] * 2, [321e3] * 2]


def test_every_contender_has_every_place_equally_often() -> None:
    orders = list(rotations(3, 6))
    assert orders[:4] == [(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 1, 2)]
    places = collections.Counter((place, contender) for order in orders for place, contender in enumerate(order))
    assert set(places.values()) == {2}


def test_round_robin_with_the_same_images_for_all(clock: FakeClock) -> None:
    contenders = [contender("a", None), contender("b", 0.1), contender("b", 0.5, batch=2)]
    detectors: dict[Path, Any] = {Path("a"): FakeDetector(clock, inference=1.0), Path("b"): FakeDetector(clock)}
    calls: list[tuple[Any, ...]] = []
    for name, detector in detectors.items():
        detector.calls = calls
        detector.name = str(name)
    said: list[str] = []
    counted: list[int] = []
    samples = measure(contenders, detectors, IMAGES, 1, 2, said.append, counted.append)
    turns = [
        ("a", None, (0,)),
        ("b", 0.1, (0,)),
        ("b", 0.5, (0, 1)),
        ("b", 0.1, (2,)),
        ("b", 0.5, (2, 0)),
        ("a", None, (2,)),
        ("b", 0.5, (1, 2)),
        ("a", None, (1,)),
        ("b", 0.1, (1,)),
    ]
    assert calls == [turn for turn in turns for _ in range(2)]  # a call that does not count, and one that does
    assert [measured.inference for measured in samples] == [[1e3] * 2, [0.0] * 2, [0.0] * 2]
    assert counted == [1, 2, 0, 2, 0, 1]  # not of the warm-up
    assert said[:4] == ["warming up a at None", "warming up b at 0.1", "warming up b at 0.5", "timing b at 0.1"]


def test_total_is_the_sum_of_the_parts() -> None:
    assert Samples([1.0, 2.0], [10.0, 20.0], [0.5, 0.25]).total == [11.5, 22.25]
