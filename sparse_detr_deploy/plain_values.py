"""Plain values (JSON, TOML, training arguments) of unknown origin: bounded depth, and numbers that a machine holds.

Deep nesting ends recursive code in ``RecursionError``, a whole number of hundreds of digits in ``OverflowError``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MOST_DEPTH = 64


def check_plain(value: object, most_values: int | None = None, most_bits: int = 64) -> None:
    """Raise ``ValueError`` unless ``value`` can be walked and computed with safely.

    Args:
        value: nested mappings, lists, tuples and sets of anything else.
        most_values: how many values there may be in all. Text bounds its own number of values; pickled objects may
            hold one list a million times, or themselves, and need this limit.
        most_bits: of a whole number. A float holds 1023.
    """
    limit = 1 << most_bits
    pending: list[tuple[object, int]] = [(value, 0)]
    count = 0
    while pending:
        item, depth = pending.pop()
        if depth > MOST_DEPTH:
            raise ValueError(f"nested more than {MOST_DEPTH} deep")
        if isinstance(item, Mapping):
            children: list[Any] = [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set, frozenset)):
            children = list(item)
        else:
            children = [item]
        count += len(children)
        if most_values is not None and count > most_values:
            raise ValueError(f"more than {most_values:,} values")
        for child in children:
            kind = type(child)
            if kind is float or kind is str:  # nearly all of a large file
                continue
            if isinstance(child, int):
                if not -limit // 2 <= child < limit:
                    raise ValueError(f"a whole number of more than {most_bits} bits")
            elif isinstance(child, (list, dict, tuple, set, frozenset, Mapping)):
                pending.append((child, depth + 1))


def parse_json(text: str, most_bits: int = 64) -> Any:
    """The value of a JSON document, whose whole numbers have at most ``most_bits``.

    Raises:
        ValueError: it is not JSON, nested too deeply, or holds a larger whole number.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested more than {MOST_DEPTH} deep") from None
    check_plain(value, most_bits=most_bits)
    return value
