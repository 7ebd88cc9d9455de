"""What is made of two results: ratios, and where exactly the limits lie."""

from __future__ import annotations

import pytest

from sparse_detr_deploy.benchmarks.compare import Comparison, Limits, check_regressions, compare
from sparse_detr_deploy.benchmarks.results import Row
from sparse_detr_deploy.errors import RegressionError
from tests.benchmarks.conftest import make_report, make_row

HALF = Limits(growth=0.5, ap_drop=0.25)  # sums and products of these are exact


def compared(old: Row, new: Row, limits: Limits = HALF) -> Comparison:
    (found,) = compare(make_report(old), make_report(new), limits)
    return found


def test_the_ratios_are_new_over_old_and_the_change_is_new_less_old() -> None:
    old = make_row([100.0] * 12, peak_memory_mib=400.0, accuracy={"AP": 0.25})
    found = compared(old, make_row([125.0] * 12, peak_memory_mib=300.0, accuracy={"AP": 0.75}))
    assert (found.old_p50_ms, found.new_p50_ms) == (100.0, 125.0)
    assert (found.time_ratio, found.memory_ratio, found.ap_change) == (1.25, 0.75, 0.5)
    assert found.regressions == ()


def test_time_is_per_image_of_either_batch() -> None:
    """The old batch too: 400 ms of 4 images against 150 ms of one."""
    found = compared(make_row([400.0] * 12, batch=4), make_row([150.0] * 12, batch=1))
    assert found.time_ratio == 1.5
    assert compared(make_row([150.0] * 12, batch=1), make_row([600.0] * 12, batch=4)).time_ratio == 1.0


@pytest.mark.parametrize(
    ("new", "regressions"),
    [
        (make_row([150.0] * 12, accuracy={"AP": 0.75}), ()),
        (make_row([150.25] * 12, accuracy={"AP": 0.75}), ("time",)),
        (make_row(peak_memory_mib=450.0, accuracy={"AP": 0.75}), ()),
        (make_row(peak_memory_mib=450.5, accuracy={"AP": 0.75}), ("memory",)),
        (make_row(accuracy={"AP": 0.5}), ()),
        (make_row(accuracy={"AP": 0.4375}), ("AP",)),
        (make_row([151.0] * 12, peak_memory_mib=451.0, accuracy={"AP": 0.0}), ("time", "memory", "AP")),
    ],
)
def test_what_is_allowed_is_allowed_to_its_end(new: Row, regressions: tuple[str, ...]) -> None:
    assert compared(make_row(accuracy={"AP": 0.75}), new).regressions == regressions


def test_a_row_takes_its_own_batch_before_any_other() -> None:
    """Each new row is compared once, and what is left over is named."""
    old = make_report(make_row([100.0] * 12, batch=4), make_row([100.0] * 12))
    new = make_report(make_row([300.0] * 12), make_row([200.0] * 12, batch=2), make_row([50.0] * 12, batch=4))
    said: list[str] = []
    found = compare(old, new, HALF, said.append)
    assert [row.new_p50_ms for row in found] == [50.0, 300.0]
    assert [text for text in said if "missing" in text] == ["r50_rho30_128x160 at ρ 0.3 is missing in the old results"]
    others = make_report(make_row([100.0] * 12), make_row([100.0] * 12, batch=8))
    found = compare(others, make_report(*new.rows[:2]), HALF)
    assert [row.new_p50_ms for row in found] == [300.0, 200.0]
    left = make_report(make_row([100.0] * 12, batch=8), make_row([100.0] * 12, batch=16))
    assert [row.new_p50_ms for row in compare(left, make_report(new.rows[1]), HALF)] == [200.0, None]


def test_the_message_counts_and_names_the_first() -> None:
    rows = [make_row(name="fine"), make_row(name="slow"), make_row(name="large", rho=None)]
    new = [
        make_row(name="fine"),
        make_row([200.0] * 12, name="slow"),
        make_row(name="large", rho=None, peak_memory_mib=900.0),
    ]
    found = compare(make_report(*rows), make_report(*new), HALF)
    check_regressions(found[:1], HALF)
    with pytest.raises(RegressionError) as caught:
        check_regressions(found, HALF)
    assert str(caught.value) == "2 of 3 rows are worse than allowed (50%, AP 0.25), the first: slow at ρ 0.3: time"
