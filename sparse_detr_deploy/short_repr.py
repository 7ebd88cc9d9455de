"""Values of unknown origin in messages: short, and without anything that a terminal would obey."""

from __future__ import annotations

import re
import reprlib

_LENGTH = 80
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_./-]{1,160}")


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxstring = self.maxother = self.maxlong = _LENGTH - 20

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write thousands of digits
        return super().repr_int(x, level) if x.bit_length() < 1024 else f"a number of {x.bit_length():,} bits"


_SHORT = _Short()


def short_repr(value: object) -> str:
    """``repr`` of ``value`` in one line of at most 80 characters, whatever it is; control characters of text are escaped."""
    try:
        text = " ".join(_SHORT.repr(value).split())  # arrays are written on several lines
    except Exception:  # an object that does not describe itself
        text = f"a {type(value).__name__}"
    return text if len(text) <= _LENGTH else f"{text[: _LENGTH - 3]}..."


def shown_name(name: str) -> str:
    """The name of a tensor or an argument as it is; its :func:`short_repr` where it is long or holds odd characters."""
    return name if _PLAIN_NAME.fullmatch(name) else short_repr(name)
