"""Reading files that somebody else wrote: regular files only, and no more of one than is reasonable.

A FIFO blocks its reader, and a device has no end; neither is opened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1 << 20
_KINDS = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a FIFO, not a regular file"),
    (stat.S_ISSOCK, "it is a socket, not a regular file"),
    (stat.S_ISCHR, "it is a device, not a regular file"),
    (stat.S_ISBLK, "it is a device, not a regular file"),
)


@contextlib.contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a regular file, or a link to one, for reading in binary.

    Raises:
        OSError: it does not exist, cannot be opened, or is no regular file; ``strerror`` says which.
    """
    path = Path(path)
    try:
        _check_kind(os.stat(path))
        # another file may have taken the name meanwhile: never wait for a FIFO's writer
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a null byte in the path
        raise OSError(errno.EINVAL, str(error)) from None
    with os.fdopen(descriptor, "rb") as file:
        _check_kind(os.fstat(descriptor))
        yield file


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise as :func:`open_regular` does where ``path`` is no regular file, without opening it.

    For libraries that open files by themselves.
    """
    try:
        _check_kind(os.stat(path))
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error)) from None


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of a regular file of at most ``most`` bytes. Raises ``OSError``, as :func:`open_regular`."""
    with open_regular(path) as file:
        # no more is asked for than there is: read() allocates what it is asked for
        size = min(os.fstat(file.fileno()).st_size, most)
        content = file.read(size + 1)
        while size < len(content) <= most:  # it grows, or is of a file system that knows no sizes
            more = file.read(min(most + 1 - len(content), _CHUNK))
            if not more:
                break
            content += more
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most:,} bytes")
    return content


def read_text(path: str | os.PathLike[str], most: int) -> str:
    """As :func:`read_bytes`, decoded from UTF-8, with or without a byte order mark.

    Raises:
        OSError: as :func:`open_regular`, and where the content is not UTF-8.
    """
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OSError(errno.EILSEQ, f"it is not UTF-8 text ({error.reason} at byte {error.start})") from None


def _check_kind(status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    described = next((text for is_kind, text in _KINDS if is_kind(status.st_mode)), "it is not a regular file")
    raise OSError(errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL, described)
