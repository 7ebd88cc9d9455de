"""Numbers of callers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparse_detr_deploy.arguments import as_number, check_whole
from sparse_detr_deploy.errors import InputError


class Mute:
    def __repr__(self) -> str:
        raise ValueError


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
