"""Whether an object of a JSON file holds what it must, and in words what it does not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Holds = Callable[[Any], bool]
Fields = Mapping[str, tuple[Holds, str]]  # by field: what holds of its value, and what is said where that does not


def is_number(value: object) -> bool:
    """Finite, and not a truth value, which Python counts as one."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def is_whole(value: object) -> bool:
    """A whole number of 64 bits, as NumPy and pycocotools hold it."""
    return type(value) is int and -(2**63) <= value < 2**63


def is_measure(value: Any) -> bool:
    """A number above 0 of a size that times, amounts of memory and counts have, so that ratios of two are finite."""
    return is_number(value) and 1e-12 <= value <= 1e18


def fault_of(value: object, required: Fields, optional: Fields | None = None) -> str:
    """What is wrong with ``value``, to be put behind its name; nothing where it is sound. Other fields are let be."""
    if not isinstance(value, dict):
        return "is no JSON object"
    for field, (holds, expected) in {**required, **(optional or {})}.items():
        if field not in value:
            if field in required:
                return f"has no {field!r}"
        elif not holds(value[field]):
            shown = repr(value[field])
            return f"has {field} {shown if len(shown) <= 60 else f'{shown[:60]}…'}, {expected}"
    return ""
