"""Two results of one computation, summed in different orders: what separates them is rounding.

Rounding grows with the numbers that are added, not with their sum, so it is held against the largest magnitude of the
whole result. An absolute tolerance, or one for each element, fails where numbers are large (as on another instruction
set, which adds in another order) and says little where they are small. The fractions in the tests are about ten times
the largest share seen on AVX2 and AVX-512 with one and with two threads: 1e-5 for one op, more for a whole network.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def share_of_scale(actual: ArrayLike, expected: ArrayLike, scale: float | None = None) -> float:
    """The largest difference as a share of ``scale``: the largest magnitude of ``expected``, where it is not given.

    NaN where a number is not finite. Of zeros against zeros it is 0.
    """
    found, wanted = np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert found.shape == wanted.shape
    if not found.size:
        return 0.0
    with np.errstate(invalid="ignore"):
        difference = float(np.abs(found - wanted).max())
    scale = float(np.abs(wanted).max()) if scale is None else scale
    return difference / scale if scale > 0 else (0.0 if difference == 0 else float("inf"))


def assert_close_to_scale(
    actual: ArrayLike, expected: ArrayLike, fraction: float, scale: float | None = None, name: str = "they"
) -> None:
    """No element differs by more than ``fraction`` of the scale, as :func:`share_of_scale` takes it."""
    share = share_of_scale(actual, expected, scale)
    assert share <= fraction, f"{name} differ by {share:.1e} of their scale, more than {fraction:.1e}"
