"""Hostile and unlucky changes to valid inputs, from a seed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Sequence
from typing import Any, TypeVar

_T = TypeVar("_T")
_NESTED = "@nested@"  # stands for brackets that json.dumps itself would refuse to nest so deeply

TEXTS = (
    "",
    "x",
    ".",
    "..",
    "../../x",
    "/abs/x",
    "a\\b",
    "a\0b",
    "\n",
    "\x1b[31mred",
    "[red]x[/red]",
    "a[/]b",
    "$x_{1$",
    "_hidden",
    "größe ρ 😀",
    "\u202eevil",
    "\ud800",
    "CON",
    "-rf",
    "x" * 300,
    "x" * 100_000,
    "1e5",
    "nan",
    "sm89",
    "float32",
)
NUMBERS = (
    *(0, -1, 1, 2, 7, 255, 65_535, 65_536, 10**6, 10**9, 2**31, 2**32, 2**53, 2**63, 2**64, 10**400, -(2**63)),
    *(0.0, -0.0, 0.3, 1.0, 1.5, -0.5, 1e-300, 5e-324, 1e-6, 1e6, 1e38, 1e39, 1e308, float("inf"), float("nan")),
)


class Mutator:
    """One case: everything in it follows from ``seed``."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def chance(self, share: float) -> bool:
        """True in ``share`` of the calls."""
        return self.random.random() < share

    def pick(self, options: Sequence[_T]) -> _T:
        """One of them."""
        return self.random.choice(options)

    def value(self, depth: int = 0) -> Any:
        """A value that a JSON document may hold anywhere."""
        kind = self.random.randrange(10)
        if kind < 3:
            return self.pick(NUMBERS)
        if kind < 6:
            return self.pick(TEXTS)
        if kind == 6:
            return self.pick((None, True, False))
        if kind == 7 or depth > 2:
            return self.pick(([], {}, [0] * 1000, [[]], {"a": None}, _NESTED, [1, 2], [0.5, "x"]))
        if kind == 8:
            return [self.value(depth + 1) for _ in range(self.random.randrange(5))]
        return {self.pick(TEXTS): self.value(depth + 1) for _ in range(self.random.randrange(4))}

    def document(self, valid: Any) -> Any:
        """A copy of ``valid`` with one to three changes."""
        result = copy.deepcopy(valid)
        for _ in range(self.pick((1, 1, 1, 2, 3))):
            result = self._changed(result)
        return result

    def _changed(self, value: Any) -> Any:
        """``value`` with one change, at it or somewhere below it."""
        if isinstance(value, dict) and value and self.chance(0.93):
            key = self.pick(list(value))
            change = self.random.randrange(12)
            if change == 0:
                del value[key]
            elif change == 1:
                value[self.pick(TEXTS)] = self.value()
            else:
                value[key] = self._changed(value[key])
            return value
        if isinstance(value, list) and value and self.chance(0.85):
            index = self.random.randrange(len(value))
            change = self.random.randrange(12)
            if change == 0:
                del value[index]
            elif change == 1:
                value.insert(index, copy.deepcopy(value[index]))
            elif change == 2:
                value.insert(index, self.value())
            else:
                value[index] = self._changed(value[index])
            return value
        if type(value) in (int, float) and abs(value) < 2**64 and self.chance(0.7):
            near = (-value, value + 1, value - 1, value * 2, float(value), str(value), value * 2**40)
            return self.pick((*near, *NUMBERS))
        return self.value()

    def json(self, document: Any) -> str:
        """The document as text, now and then damaged as text."""
        text = json.dumps(document, ensure_ascii=self.chance(0.5) or _has_surrogate(document))
        depth = self.pick((30, 70, 900, 5000, 100_000))
        text = text.replace(f'"{_NESTED}"', self.pick(("[", '{"a":')) * depth)  # closed or not: both occur
        if self.chance(0.05):
            text = self.data(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
        return text

    def data(self, valid: bytes) -> bytes:
        """A copy of ``valid`` with one to eight changes of bytes."""
        content = bytearray(valid)
        for _ in range(self.random.randint(1, 8)):
            at = self.random.randrange(len(content) + 1)
            change = self.random.randrange(8)
            if change < 3 and at < len(content):
                content[at] ^= 1 << self.random.randrange(8)
            elif change == 3 and at < len(content):
                content[at] = self.pick((0, 1, 0x7F, 0x80, 0xFF))
            elif change == 4:
                content[at:at] = bytes(self.random.randrange(256) for _ in range(self.random.randint(1, 9)))
            elif change == 5:
                del content[at : at + self.random.randint(1, 9)]
            elif change == 6 and len(content) > 8:
                width = self.pick((2, 4, 8))
                number = self.pick((0, 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1)) % 2 ** (8 * width)
                content[at : at + width] = number.to_bytes(width, self.pick(("little", "big")))
            elif change == 7 and self.chance(0.3):
                del content[at:]
        return bytes(content)

    def noise(self, most: int = 200) -> bytes:
        """Random bytes."""
        return self.random.randbytes(self.random.randrange(most))


def _has_surrogate(value: Any) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in str(value))
