"""Tables say what the figures' data say."""

from __future__ import annotations

from typing import Any

from sparse_detr_deploy.benchmarks.paper.tables import markdown


def point(x: float, *values: float) -> dict[str, Any]:
    mean = sum(values) / len(values)
    return {"x": x, "mean": mean, "min": min(values), "max": max(values), "by_seed": dict(enumerate(values))}


def test_lines_against_x() -> None:
    lines = [
        {"label": "one", "points": [point(0.1, 0.4, 0.5), point(0.3, 0.6)]},
        {"label": "two", "points": [point(0.3, 0.7)]},
    ]
    assert markdown({"x": "ρ", "y": "AP", "lines": lines}) == (
        "| ρ | one | two |\n| --- | --: | --: |\n"
        "| 0.1 | 0.450 (0.400–0.500) |  |\n"
        "| 0.3 | 0.600 | 0.700 |\n"
    )  # fmt: skip


def test_of_long_lines_some_points_and_the_last() -> None:
    lines = [{"label": "one", "points": [point(step, 0.5) for step in range(50, 1150, 50)]}]
    rows = markdown({"x": "step", "y": "Corr", "lines": lines}).splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == ["50", "200", "350", "500", "650", "800", "950", "1100"]


def test_bars() -> None:
    lines = [{"label": "top-k", "points": [point(0, 0.6)]}, {"label": "learned", "points": [point(1, 0.5)]}]
    assert markdown({"x": "", "y": "AP", "lines": lines}).splitlines()[2:] == [
        "| top-k | 0.600 |",
        "| learned | 0.500 |",
    ]
