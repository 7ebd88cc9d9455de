"""Locks between processes, which the kernel frees when their holder dies: a stale lock cannot be."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def process_lock(path: Path, held: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of the file ``path``, whose folder must be there; the file is removed at the end.

    Args:
        path: of the lock file. One that a killed process has left does not count as held.
        held: called where another process holds the lock, with words for it such as ``process 123``. It raises to
            refuse; where it returns, the lock is waited for.

    Raises:
        OSError: the file cannot be made or locked; ``strerror`` says why.
    """
    descriptor = _acquire(path, held)
    try:
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {platform.node()}\n".encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # forked processes have the descriptor too
        os.close(descriptor)


def _acquire(path: Path, held: Callable[[str], None]) -> int:
    """Descriptor of the locked file."""
    if fcntl is None:
        raise OSError(errno.ENOTSUP, "locks between processes need Linux or macOS")
    said = False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not said:
                    held(_holder(descriptor))
                    said = True
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_file_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # who held it before has removed the file meanwhile: another may lock a new one


def _is_file_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    found = re.match(rb"(\d{1,10}) (\S{0,255})\n", os.pread(descriptor, 300, 0))
    if found is None:  # it has the lock, but has not written its number yet
        return "another process"
    number, host = (part.decode(errors="replace") for part in found.groups())
    return f"process {number}" if host == platform.node() else f"process {number} on {host}"
