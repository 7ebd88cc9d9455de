"""A function of the system that fails once: a full disk, or an interrupt, at any of its calls."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

FULL_DISK = OSError(28, "No space left on device")


def fail_once(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, call: int, error: BaseException = FULL_DISK
) -> list[Any]:
    """Let ``module.name`` raise ``error`` at its call number ``call`` (from 0); gives the last argument of each call."""
    real, calls = getattr(module, name), []

    def function(*args: Any) -> Any:
        calls.append(args[-1])
        if len(calls) == call + 1:
            raise error
        return real(*args)

    monkeypatch.setattr(module, name, function)
    return calls
