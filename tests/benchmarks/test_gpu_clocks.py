"""Clocks and throttling of a fake GPU, and which of the samples are whose."""

from __future__ import annotations

import dataclasses
import sys
import time

import pytest

from sparse_detr_deploy.benchmarks.gpu_clocks import ClockSample, ClockSampler, samples_during, summarise_clocks
from tests.fakes.nvml import FakeNvml

BUS = "0000:01:00.0"
ALWAYS = [(0.0, float("inf"))]


def test_clocks_that_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml(reasons=(0x1, 0x4, 0x0))
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    with ClockSampler(BUS, interval_s=0.001) as sampler:
        while fake.samples < 4:
            time.sleep(0.001)
    found = sampler.during(ALWAYS)
    assert found is not None
    assert found.count >= 4
    assert set(found.throttled) == {"power cap"}
    assert found.temperature_c["min"] == 60
    assert fake.users == 0


def test_what_is_made_of_clock_samples() -> None:
    found = summarise_clocks(
        [ClockSample(0.0, 0.1, 1000, 2000, 100, 50, 0x1), ClockSample(0.2, 0.3, 1200, 2000, 300, 70, 0x8 | 0x40)]
    )
    assert dataclasses.asdict(found) == {
        "count": 2,
        "sm_mhz": {"min": 1000, "mean": 1100, "max": 1200},
        "memory_mhz": {"min": 2000, "mean": 2000, "max": 2000},
        "power_w": {"min": 100, "mean": 200, "max": 300},
        "temperature_c": {"min": 50, "mean": 60, "max": 70},
        "throttled": {"hardware slowdown": 0.5, "hardware thermal slowdown": 0.5},
    }


SAMPLES = [ClockSample(began, began + 0.01, 1000 + index, 0, 0, 0, 0) for index, began in enumerate((0, 1, 2, 3, 4))]


@pytest.mark.parametrize(
    ("calls", "chosen"),
    [
        ([(0.5, 2.5)], [1, 2]),  # inside
        ([(0.5, 2.005)], [1]),  # the second is read beyond the call's end
        ([(0.0, 0.01), (3.9, 9.0)], [0, 4]),
        ([(1.3, 1.4)], [1]),  # shorter than the period: the nearest
        ([(1.6, 1.7)], [2]),
        ([(1.1, 1.2), (1.2, 1.3), (0.9, 1.1)], [1]),  # none counts twice
        ([(-0.3, -0.2)], [0]),
        ([(4.2, 4.3)], [4]),
        ([(90.0, 91.0)], []),  # the sampler had stopped long before
        ([], []),
    ],
)
def test_samples_of_calls(calls: list[tuple[float, float]], chosen: list[int]) -> None:
    found = samples_during(SAMPLES, calls, interval_s=1.0)
    assert [sample.sm_mhz - 1000 for sample in found] == chosen


def test_no_samples() -> None:
    assert samples_during([], ALWAYS, interval_s=1.0) == []


def test_no_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    for module in (None, FakeNvml(starts=False), FakeNvml(fails_after=0)):
        monkeypatch.setitem(sys.modules, "pynvml", module)
        with ClockSampler(BUS, said.append) as sampler:
            pass
        assert sampler.during(ALWAYS) is None
    assert "nvidia-ml-py" in said[0]
    assert "does not start" in said[1]
    assert "GPU is lost" in said[2]
