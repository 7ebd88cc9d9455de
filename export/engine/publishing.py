"""An engine and its sidecar appear together or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
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

    A pair that is there stays until then, and is put back where one of the two cannot be renamed.

    Raises:
        OutputError: as :func:`~sparse_detr_deploy.export.publish.publish`.
    """
    sidecar = sidecar_path(engine)
    check_pair(engine, overwrite)
    # the engine is renamed first: a sidecar without engine would promise one
    with (
        _set_aside() as set_aside,
        publish(sidecar, overwrite) as sidecar_file,
        publish(engine, overwrite) as engine_file,
    ):
        yield engine_file, sidecar_file
        for path in (sidecar, engine):
            set_aside(path)


@contextlib.contextmanager
def _set_aside() -> Iterator[Callable[[Path], None]]:
    """Give a function that moves a file away: for good where the block ends well, else it comes back.

    Where there was no file to move, one that has taken the name meanwhile goes in that case.
    """
    places: dict[Path, Path] = {}
    absent: set[Path] = set()

    def move(path: Path) -> None:
        places[path] = path.with_name(f".{secrets.token_hex(8)}.old")
        try:
            path.rename(places[path])
        except FileNotFoundError:
            absent.add(path)

    try:
        yield move
    except BaseException:
        for path, place in places.items():
            if os.path.lexists(place):
                os.replace(place, path)
            elif path in absent:
                path.unlink(missing_ok=True)
        raise
    for place in places.values():
        with contextlib.suppress(OSError):  # the new pair stands
            place.unlink(missing_ok=True)
