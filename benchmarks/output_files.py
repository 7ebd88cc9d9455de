"""Files of results: their names, and that nothing else is written over."""

from __future__ import annotations

from pathlib import Path

from sparse_detr_deploy.benchmarks.results import KIND
from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.export.publish import check_replaced

# how those begin that 'sparse-detr-bench run' wrote
_BEGINNINGS = {".json": f'{{"kind": "{KIND}"', ".csv": "name,artefact,sha256,"}


def check_suffix(path: Path, suffix: str, option: str) -> None:
    """Raise :class:`InputError` unless ``path`` ends in ``suffix``: an artefact is easily named in a file's place."""
    if path.suffix.lower() != suffix and not path.is_dir():
        raise InputError(f"{option} {path}: results are written to a file whose name ends in {suffix}; change the name")


def check_replaceable(path: Path, suffix: str) -> None:
    """Raise :class:`OutputError` where ``path`` is there and holds something else than results of a run.

    Args:
        path: of the file to be written; it may be absent or empty.
        suffix: what it is to hold: ``.json`` or ``.csv``.
    """
    check_replaced(path, (suffix,), _BEGINNINGS[suffix])
