"""Numbers of callers, and how odd values are shown."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparse_detr_deploy.arguments import as_number, check_whole, shown
from sparse_detr_deploy.errors import InputError


class Mute:
    def __repr__(self) -> str:
        raise ValueError


def test_whatever_is_shown_is_one_short_line() -> None:
    for value in (None, "x\ny" * 10**6, 10**5000, np.zeros((100, 100)), [10**5000], list(range(10**5)), Mute()):
        assert 0 < len(shown(value)) < 200
        assert "\n" not in shown(value)


def test_numbers() -> None:
    assert as_number(np.float32(0.5)) == 0.5
    assert as_number(10**400) == math.inf
    assert as_number(-(10**400)) == -math.inf
    for value in (None, "1", True, np.array(1.0), np.bool_(True), 1j, Mute()):
        assert math.isnan(as_number(value))


def test_whole_numbers() -> None:
    assert type(check_whole(np.int16(3), "count", 0)) is int
    for value in (-1, 1.0, np.float64(1), "1", None, True, np.array(1), np.array([1, 2]), float("nan")):
        with pytest.raises(InputError, match="count is .* at least 0 is needed"):
            check_whole(value, "count", 0)
