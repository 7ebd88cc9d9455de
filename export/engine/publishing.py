"""An engine and its sidecar appear together or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from sparse_detr_deploy.engine_record import sidecar_path
from sparse_detr_deploy.export.publish import check_output, publish

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def check_pair(engine: Path, overwrite: bool = False) -> None:
    """Raise :class:`OutputError` where one of the two cannot be written. Call it before heavy work."""
    for path in (engine, sidecar_path(engine)):
        check_output(path, overwrite)


@contextlib.contextmanager
def publish_pair(engine: Path, overwrite: bool = False) -> Iterator[tuple[Path, Path]]:
    """Give temporary paths for engine and sidecar; both are renamed when the block ends well, else removed.

    Of two that publish one pair at once, each renames both files before the other renames one.

    Raises:
        OutputError: as :func:`~sparse_detr_deploy.export.publish.publish`.
    """
    sidecar = sidecar_path(engine)
    check_pair(engine, overwrite)
    ours: tuple[int, int] | None = None
    with contextlib.ExitStack() as renaming:
        try:
            # the engine is renamed first: a sidecar without engine would promise one
            with publish(sidecar, overwrite) as sidecar_file, publish(engine, overwrite) as engine_file:
                yield engine_file, sidecar_file
                renaming.enter_context(_alone_in(engine.parent))
                ours = _identity(engine_file)
        except BaseException:
            if ours is not None and _identity(engine) == ours:  # in place, and its sidecar is not
                engine.unlink(missing_ok=True)
                if overwrite:  # it described the engine that ours has replaced
                    sidecar.unlink(missing_ok=True)
            raise


def _identity(path: Path) -> tuple[int, int] | None:
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
