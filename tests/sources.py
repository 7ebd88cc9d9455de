"""The source files of the package, for rules that hold everywhere in it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]


def package_sources() -> list[Path]:
    """Every Python file of the package, in all its folders."""
    found = [
        path for folder in ("sparse_detr_deploy", "export", "benchmarks") for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(found) > 100
    return found
