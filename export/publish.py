"""Files appear whole or not at all: a temporary file in the target folder, renamed when it is finished."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sparse_detr_deploy.errors import OutputError


def check_output(path: Path, overwrite: bool = False) -> None:
    """Raise :class:`OutputError` where ``path`` cannot be written; makes its folder. Call it before heavy work."""
    folder = path.parent
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already: give --force to write over it, or another --output")
    if path.is_dir():
        raise OutputError(f"{path} is a folder: a file of this name is to be written")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{folder} cannot be written to ({error.strerror}): choose another --output") from None


@contextlib.contextmanager
def publish(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path to write to; rename it to ``path`` when the block ends well, else remove it.

    Raises:
        OutputError: the folder is not writable, the disk is full, or ``path`` is there already.
    """
    check_output(path, overwrite)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"no space left for {path}: free some, or choose another --output") from None
        raise OutputError(f"{path} cannot be written ({error.strerror or error})") from None
    finally:
        temporary.unlink(missing_ok=True)
