"""The log of a run: one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sparse_detr_deploy.export.publish import publish, reports_write_errors
from sparse_detr_deploy.plain_values import parse_json

_REQUIRED = {"phase", "step", "images"}


class RunLog:
    """``path`` and its lines; each has at least ``phase``, ``step`` and ``images``, the number of images seen."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, entry: dict[str, Any]) -> None:
        """Write one more line.

        Raises:
            OutputError: it cannot be written.
        """
        with reports_write_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def entries(self) -> list[dict[str, Any]]:
        """All lines; damaged ones, such as one that was being written when the run was killed, are left out.

        Raises:
            OutputError: the file cannot be read.
        """
        if not self.path.is_file():
            return []
        with reports_write_errors(self.path):  # of a file that is written too
            lines = self.path.read_bytes().splitlines()
        return [entry for line in lines if (entry := _entry(line)) is not None]

    def keep(self, images: int) -> None:
        """Drop what was logged after ``images`` images.

        Raises:
            OutputError: it cannot be written.
        """
        if self.path.is_file():
            kept = [entry for entry in self.entries() if entry["images"] <= images]
            with publish(self.path, overwrite=True) as temporary:
                temporary.write_text("".join(f"{json.dumps(entry)}\n" for entry in kept), encoding="utf-8")


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = parse_json(line.decode("utf-8"))
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and entry.keys() >= _REQUIRED and type(entry["images"]) is int else None
