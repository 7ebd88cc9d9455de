from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sparse_detr_deploy.benchmarks.timing import STABLE, TOO_FEW, UNSTABLE, judge, summarise


def test_statistics_of_known_samples() -> None:
    found = summarise([float(value) for value in range(1, 101)])
    assert found.p50 == pytest.approx(50.5)
    assert found.p90 == pytest.approx(90.1)
    assert found.p95 == pytest.approx(95.05)
    assert found.p99 == pytest.approx(99.01)
    assert found.std == pytest.approx(np.std(range(1, 101), ddof=1))


def test_fps_are_of_the_mean_and_count_the_images_of_a_batch() -> None:
    found = summarise([10.0, 10.0, 40.0], batch=2)
    assert (found.p50, found.mean) == (10.0, 20.0)
    assert found.fps == 100.0  # 2 images in 20 ms


def test_statistics_of_one_sample() -> None:
    found = summarise([4.0])
    assert (found.p50, found.p99, found.std, found.fps) == (4.0, 4.0, 0.0, 250.0)


def test_no_time_at_all_is_any_number_of_images() -> None:
    assert summarise([0.0, 0.0]).fps == float("inf")


def test_plain_values_name_their_unit() -> None:
    found = summarise([1.0, 2.0, 6.0])
    values = found.to_dict()
    assert list(values) == ["mean_ms", "std_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "fps"]
    assert tuple(values.values()) == dataclasses.astuple(found)


@pytest.mark.parametrize(
    ("samples", "verdict"),
    [
        ([100.0] * 9, STABLE),
        ([100.0] * 3 + [102.0] * 3 + [104.0] * 3, STABLE),
        ([100.0] * 3 + [102.0] * 3 + [106.0] * 3, UNSTABLE),
        ([106.0] * 3 + [102.0] * 3 + [100.0] * 3, UNSTABLE),
        ([100.0, 100.0, 900.0] + [100.0] * 6, STABLE),  # an outlier moves a mean, not the median
        ([100.0, 102.0, 106.0] * 3, STABLE),  # the windows are consecutive
        ([100.0] * 8, TOO_FEW),
    ],
)
def test_stability(samples: list[float], verdict: str) -> None:
    assert judge(samples).verdict == verdict


def test_stability_up_to_the_tolerance() -> None:
    assert judge([100.0] * 6 + [150.0] * 3, tolerance=0.5).verdict == STABLE
    assert judge([100.0] * 6 + [150.0] * 3, tolerance=0.49).verdict == UNSTABLE


def test_stability_tells_the_medians() -> None:
    stability = judge([110.0] * 4 + [100.0] * 4 + [105.0] * 4)
    assert stability.window_medians_ms == (110.0, 100.0, 105.0)
    assert stability.spread == pytest.approx(0.1)
    assert judge([100.0] * 8).to_dict() == {"verdict": TOO_FEW, "window_medians_ms": (), "spread": None}
