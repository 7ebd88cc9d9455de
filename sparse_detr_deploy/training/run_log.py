"""The log of a run: one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sparse_detr_deploy.export.publish import publish, reports_write_errors


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
        """All lines; one that was being written when the run was killed is left out."""
        if not self.path.is_file():
            return []
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def keep(self, images: int) -> None:
        """Drop what was logged after ``images`` images.

        Raises:
            OutputError: it cannot be written.
        """
        if self.path.is_file():
            kept = [entry for entry in self.entries() if entry["images"] <= images]
            with publish(self.path, overwrite=True) as temporary:
                temporary.write_text("".join(f"{json.dumps(entry)}\n" for entry in kept), encoding="utf-8")
