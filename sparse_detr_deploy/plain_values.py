"""Plain values (JSON, TOML, training arguments) of unknown origin: bounded depth, and numbers that a machine holds.

Deep nesting ends recursive code in ``RecursionError``, a whole number of hundreds of digits in ``OverflowError``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MOST_DEPTH = 64
_LEAST_INT, _MOST_INT = -(2**63), 2**64 - 1


def check_plain(value: object, most_values: int | None = None) -> None:
    """Raise ``ValueError`` unless ``value`` can be walked and computed with safely.

    Args:
        value: nested mappings, lists, tuples and sets of anything else.
        most_values: how many values there may be in all. Text bounds its own number of values; pickled objects may
            hold one list a million times, or themselves, and need this limit.
    """
    pending: list[tuple[object, int]] = [(value, 0)]
    count = 0
    while pending:
        item, depth = pending.pop()
        if depth > MOST_DEPTH:
            raise ValueError(f"nested more than {MOST_DEPTH} deep")
        if isinstance(item, Mapping):
            children = [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set, frozenset)):
            children = list(item)
        else:
            children = [item]
        count += len(children)
        if most_values is not None and count > most_values:
            raise ValueError(f"more than {most_values:,} values")
        for child in children:
            if isinstance(child, int):
                if not _LEAST_INT <= child <= _MOST_INT:
                    raise ValueError("a whole number of more than 64 bits")
            elif isinstance(child, (Mapping, list, tuple, set, frozenset)):
                pending.append((child, depth + 1))


def parse_json(text: str) -> Any:
    """The value of a JSON document.

    Raises:
        ValueError: it is not JSON, nested too deeply, or holds a whole number of more than 64 bits.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested more than {MOST_DEPTH} deep") from None
    check_plain(value)
    return value
