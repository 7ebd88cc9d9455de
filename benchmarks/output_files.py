"""Files of results: their names, and that nothing else is written over."""

from __future__ import annotations

import re
from pathlib import Path

from sparse_detr_deploy.benchmarks.results import KIND
from sparse_detr_deploy.errors import InputError, OutputError
from sparse_detr_deploy.regular_files import open_regular

# how those begin that 'sparse-detr-bench run' wrote
_BEGINNINGS = {
    ".json": re.compile(rf'\s*\{{\s*"kind"\s*:\s*"{re.escape(KIND)}"'),
    ".csv": re.compile("name,artefact,sha256,"),
}


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
    if not path.is_file():
        return
    try:
        with open_regular(path) as file:
            start = file.read(4096).decode("utf-8", "replace")
    except OSError as error:
        raise OutputError(f"{path} is there and cannot be read ({error.strerror}): choose another name") from None
    if start and not _BEGINNINGS[suffix].match(start):
        raise OutputError(
            f"{path} is there, and is no file of results of sparse-detr-bench run: choose another name, or remove it"
        )
