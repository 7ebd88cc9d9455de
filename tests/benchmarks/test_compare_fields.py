"""Which number of a comparison is which, and which results are the older ones."""

from __future__ import annotations

from sparse_detr_deploy.benchmarks.compare import Comparison, Limits, compare
from tests.benchmarks.conftest import make_report, make_row
from tests.benchmarks.test_likeness import accurate


def test_fields() -> None:
    old = make_report(make_row([100.0] * 12, accuracy={"AP": 0.5}), make_row([30.0] * 12, name="b"))
    new = make_report(make_row([150.0] * 12, accuracy={"AP": 0.25}, peak_memory_mib=450.0))
    told: list[str] = []
    one, gone = compare(old, new, Limits(growth=0.05, ap_drop=0.001), told.append)
    assert one == Comparison(
        name="r50_rho30_128x160",
        rho=0.3,
        old_p50_ms=100.0,
        new_p50_ms=150.0,
        time_ratio=1.5,
        memory_ratio=1.5,
        ap_change=-0.25,
        stable=True,
        regressions=("time", "memory", "AP"),
    )
    nothing = dict.fromkeys(("new_p50_ms", "time_ratio", "memory_ratio", "ap_change"))
    assert gone == Comparison(name="b", rho=0.3, old_p50_ms=30.0, stable=True, regressions=gone.regressions, **nothing)
    assert len(gone.regressions) == 1


def test_annotations_then_and_now() -> None:
    told: list[str] = []
    compare(accurate("val.json", 9), accurate("other.json", 9), Limits(growth=0.05, ap_drop=0.001), told.append)
    assert any("AP is not compared" in text and "on val.json, now on other.json" in text for text in told)
