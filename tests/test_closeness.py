"""What is rounding passes at any scale, and what is not fails at any scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.closeness import assert_close_to_scale, share_of_scale

VALUES = np.array([[1.0, -400.0], [1e-3, 200.0]], dtype=np.float32)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_the_largest_difference_is_held_against_the_largest_magnitude(scale: float) -> None:
    found = VALUES.astype(np.float64) * scale
    found[1, 0] += 0.4 * scale
    assert share_of_scale(found, VALUES.astype(np.float64) * scale) == pytest.approx(1e-3)
    assert_close_to_scale(found, VALUES.astype(np.float64) * scale, 1.1e-3)
    with pytest.raises(AssertionError, match=r"level 2 differ by 1\.0e-03 of their scale, more than 9\.0e-04"):
        assert_close_to_scale(found, VALUES.astype(np.float64) * scale, 9e-4, name="level 2")


def test_a_scale_that_is_given() -> None:
    assert share_of_scale([1.0, 2.0], [1.0, 2.5], scale=10) == pytest.approx(0.05)


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_what_is_no_number_fails(odd: float) -> None:
    for pair in (([odd, 1.0], [1.0, 1.0]), ([1.0, 1.0], [odd, 1.0]), ([odd, 1.0], [odd, 1.0])):
        with pytest.raises(AssertionError):
            assert_close_to_scale(*pair, 0.5)


def test_shapes_must_be_the_same() -> None:
    with pytest.raises(AssertionError):
        assert_close_to_scale(VALUES, VALUES[:1], 1.0)


def test_zeros_and_nothing() -> None:
    assert share_of_scale(torch.zeros(3), torch.zeros(3)) == 0
    assert share_of_scale([1e-30], [0.0]) == float("inf")
    assert share_of_scale(torch.zeros(0, 4), torch.zeros(0, 4)) == 0
