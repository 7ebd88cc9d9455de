from __future__ import annotations

import collections
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sparse_detr_deploy.benchmarks.measuring import Samples, measure, rotations
from sparse_detr_deploy.benchmarks.timing import STABLE, TOO_FEW, UNSTABLE, judge, summarise


def test_statistics_of_known_samples() -> None:
    found = summarise([float(value) for value in range(1, 101)], batch=2)
    assert found.p50 == pytest.approx(50.5)
    assert found.p90 == pytest.approx(90.1)
    assert found.p95 == pytest.approx(95.05)
    assert found.p99 == pytest.approx(99.01)
    assert found.mean == pytest.approx(50.5)
    assert found.std == pytest.approx(np.std(range(1, 101), ddof=1))
    assert found.fps == pytest.approx(2000 / 50.5)


def test_statistics_of_one_sample() -> None:
    found = summarise([4.0])
    assert (found.p50, found.p99, found.std, found.fps) == (4.0, 4.0, 0.0, 250.0)


@pytest.mark.parametrize(
    ("samples", "verdict"),
    [
        ([100.0] * 9, STABLE),
        ([100.0] * 3 + [102.0] * 3 + [104.0] * 3, STABLE),
        ([100.0] * 3 + [102.0] * 3 + [106.0] * 3, UNSTABLE),
        ([100.0, 100.0, 900.0] * 5, STABLE),  # outliers that come evenly do not move the median
        ([100.0] * 8, TOO_FEW),
    ],
)
def test_stability(samples: list[float], verdict: str) -> None:
    assert judge(samples).verdict == verdict


def test_stability_tells_the_medians() -> None:
    stability = judge([100.0] * 4 + [110.0] * 4 + [105.0] * 4)
    assert stability.window_medians_ms == (100.0, 110.0, 105.0)
    assert stability.spread == pytest.approx(0.1)


def test_every_contender_has_every_place_equally_often() -> None:
    orders = list(rotations(3, 6))
    assert orders[:4] == [(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 1, 2)]
    places = collections.Counter((place, contender) for order in orders for place, contender in enumerate(order))
    assert set(places.values()) == {2}


def test_round_robin_with_the_same_images_for_all() -> None:
    calls: list[tuple[str, float | None, tuple[int, ...]]] = []

    def detector(name: str) -> Any:
        def preprocess(images: list[Any], keep_ratio: float | None) -> dict[str, Any]:
            calls.append((name, keep_ratio, tuple(int(image[0, 0, 0]) for image in images)))
            return {}

        return SimpleNamespace(
            preprocess=preprocess, runner=SimpleNamespace(run=lambda feed: {}), postprocess=lambda outputs, sizes: []
        )

    def contender(name: str, ratio: float | None, batch: int = 1) -> Any:
        return SimpleNamespace(path=Path(name), keep_ratio=ratio, batch=batch, title=name)

    contenders = [contender("a", None), contender("b", 0.1), contender("b", 0.5, batch=2)]
    images = [np.full((2, 2, 3), value, dtype=np.uint8) for value in range(3)]
    samples = measure(contenders, {Path("a"): detector("a"), Path("b"): detector("b")}, images, warmup=1, rounds=2)
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
    for measured in samples:
        assert len(measured.inference) == len(measured.preprocess) == len(measured.postprocess) == 2


def test_total_is_the_sum_of_the_parts() -> None:
    assert Samples([1.0, 2.0], [10.0, 20.0], [0.5, 0.25]).total == [11.5, 22.25]
