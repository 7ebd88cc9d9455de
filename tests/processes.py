"""Looking at processes."""

from __future__ import annotations

import os
import time
from pathlib import Path


def has_ended(number: int) -> bool:
    """Whether the process ends within ten seconds; one that nobody reaps counts as ended."""
    for _ in range(200):
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        status = Path(f"/proc/{number}/stat")
        try:
            if status.is_file() and ") Z " in status.read_text():
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False
