"""The JSON file of a GPU script: a foreign file is refused before the work, a whole one takes the place of an older."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sparse_detr_deploy.export.publish import check_output, check_replaced, publish


def check_json(path: Path) -> None:
    """Raise ``OutputError`` where ``path`` cannot be written, or is there and no JSON file."""
    check_output(path, overwrite=True)
    check_replaced(path, (".json",))


def write_json(path: Path, document: Any) -> None:
    """Write ``document``, whole or not at all. Raises ``OutputError``."""
    with publish(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
