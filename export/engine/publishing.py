"""An engine and its sidecar appear together or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from sparse_detr_deploy.engine_record import sidecar_path
from sparse_detr_deploy.export.publish import check_output, publish

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_Identity = tuple[int, int]


def check_pair(engine: Path, overwrite: bool = False) -> None:
    """Raise :class:`OutputError` where one of the two cannot be written. Call it before heavy work."""
    for path in (engine, sidecar_path(engine)):
        check_output(path, overwrite)


@contextlib.contextmanager
def publish_pair(engine: Path, overwrite: bool = False) -> Iterator[tuple[Path, Path]]:
    """Give temporary paths for engine and sidecar; both are renamed when the block ends well, else removed.

    A pair that is there stays until then, and is put back where one of the two cannot be renamed. Of two that publish
    one pair at once, each renames both files before the other renames one.

    Raises:
        OutputError: as :func:`~sparse_detr_deploy.export.publish.publish`.
    """
    sidecar = sidecar_path(engine)
    check_pair(engine, overwrite)
    with (
        contextlib.ExitStack() as renaming,
        # the engine is renamed first: a sidecar without engine would promise one
        publish(sidecar, overwrite) as sidecar_file,
        publish(engine, overwrite) as engine_file,
    ):
        yield engine_file, sidecar_file
        renaming.enter_context(_alone_in(engine.parent))
        replace = renaming.enter_context(_replacing(overwrite))
        replace(sidecar, sidecar_file)
        replace(engine, engine_file)


@contextlib.contextmanager
def _replacing(overwrite: bool) -> Iterator[Callable[[Path, Path], None]]:
    """Give a function to call for each path with the file that will be renamed to it.

    With ``overwrite`` it moves what is there aside: for good where the block ends well, else it comes back. A new file
    that has its name already then goes.
    """
    set_aside: dict[Path, Path] = {}
    new: dict[Path, _Identity | None] = {}

    def replace(path: Path, file: Path) -> None:
        new[path] = _identity(file)
        if overwrite:
            place = path.with_name(f".{secrets.token_hex(8)}.old")
            with contextlib.suppress(FileNotFoundError):
                set_aside[path] = place
                path.rename(place)

    try:
        yield replace
    except BaseException:
        for path, identity in new.items():
            if path in set_aside and os.path.lexists(set_aside[path]):
                os.replace(set_aside[path], path)
            elif identity is not None and _identity(path) == identity:  # not what another program has put there
                path.unlink(missing_ok=True)
        raise
    for place in set_aside.values():
        with contextlib.suppress(OSError):  # the new pair stands
            place.unlink(missing_ok=True)


def _identity(path: Path) -> _Identity | None:
    """What a file keeps when it is renamed."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process publishes a pair in ``folder``. The system forgets the lock of a process that dies.

    Where the system or the file system has no such locks, two that overwrite one pair at once may leave the engine of
    one with the sidecar of the other, which the runner refuses.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
