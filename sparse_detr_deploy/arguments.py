"""What callers hand over, where a number is meant: numbers of Python and NumPy, and nothing else."""

from __future__ import annotations

import math
import numbers
import operator
from typing import SupportsIndex, cast

from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.short_repr import short_repr


def as_number(value: object) -> float:
    """``value`` as a float; NaN where it is no real number: text, an array, ``None``, a ``bool``."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (OverflowError, ValueError):  # more than any float holds
        return math.inf if operator.gt(value, 0) else -math.inf


def check_whole(value: object, name: str, least: int | None = None) -> int:
    """Return ``value`` if it is a whole number (of at least ``least``), else raise :class:`InputError`."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    number = operator.index(cast(SupportsIndex, value)) if whole else None
    if number is None or (least is not None and number < least):
        limit = "" if least is None else f" of at least {least}"
        raise InputError(f"{name} is {short_repr(value)}, but a whole number{limit} is needed")
    return number


def check_score(value: object, name: str) -> float:
    """Return ``value`` as a float if it is a score in 0..1, else raise :class:`InputError`."""
    score = as_number(value)
    if not 0 <= score <= 1:
        raise InputError(f"{name} is {short_repr(value)}, but scores go from 0 to 1: give a number between them")
    return score
