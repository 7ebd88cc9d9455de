"""An engine and its sidecar appear together or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sparse_detr_deploy.engine_record import sidecar_path
from sparse_detr_deploy.export.publish import check_output, publish


def check_pair(engine: Path, overwrite: bool = False) -> None:
    """Raise :class:`OutputError` where one of the two cannot be written. Call it before heavy work."""
    for path in (engine, sidecar_path(engine)):
        check_output(path, overwrite)


@contextlib.contextmanager
def publish_pair(engine: Path, overwrite: bool = False) -> Iterator[tuple[Path, Path]]:
    """Give temporary paths for engine and sidecar; both are renamed when the block ends well, else removed.

    Raises:
        OutputError: as :func:`~sparse_detr_deploy.export.publish.publish`.
    """
    sidecar = sidecar_path(engine)
    check_pair(engine, overwrite)
    renaming = False
    try:
        # the engine is renamed first: a sidecar without engine would promise one
        with publish(sidecar, overwrite) as sidecar_file, publish(engine, overwrite) as engine_file:
            yield engine_file, sidecar_file
            renaming = True
    except BaseException:
        if renaming:  # perhaps one is in place, and what it belonged to is gone
            engine.unlink(missing_ok=True)
            sidecar.unlink(missing_ok=True)
        raise
