"""Throughput of what takes hardly any time."""

from __future__ import annotations

from sparse_detr_deploy.benchmarks.timing import summarise


def test_images_a_second_of_less_than_a_millisecond() -> None:
    assert summarise([0.5, 0.5]).fps == 2000
    assert summarise([0.0, 0.0]).fps == float("inf")
