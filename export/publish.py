"""Files appear whole or not at all: a temporary file in the target folder, renamed when it is finished."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from sparse_detr_deploy.errors import OutputError, SparseDetrError

# of file systems without hard links (FAT, many of networks and of phones), and of those that restrict them
_NO_LINKS = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)


def check_output(path: Path, overwrite: bool = False) -> None:
    """Raise :class:`OutputError` where ``path`` cannot be written; makes its folder. Call it before heavy work.

    With ``overwrite`` regular files and links are replaced, never a device or a FIFO: the file that is renamed to the
    name would take its place.
    """
    folder = path.parent
    try:
        if path.is_dir():
            raise OutputError(f"{path} is a folder, but a file of this name is to be written: choose another place")
        if _is_there(path) and not overwrite:
            raise OutputError(f"{path} exists already: give --force to write over it, or choose another place")
        if path.exists() and not path.is_file():
            raise OutputError(f"{path} is a device or a FIFO, not a regular file, so it is not replaced: name a file")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        if isinstance(error, OutputError):
            raise
        reason = getattr(error, "strerror", None) or error
        if getattr(error, "errno", None) == errno.ENAMETOOLONG:
            raise OutputError(
                f"{path} cannot be written ({reason}): choose another place, or one with a shorter name"
            ) from None
        raise OutputError(f"{folder} cannot be written to ({reason}): choose another place") from None


def check_replaced(path: Path, suffixes: Sequence[str], start: str = "") -> None:
    """Raise :class:`OutputError` where ``path`` is a file that is surely not an older result of the same kind.

    For outputs that are written over unasked. A file that is not there, or is empty, may always be written.

    Args:
        path: of the output.
        suffixes: of such results, as ``.json``; upper and lower case are the same.
        start: how the content of such results starts, white space left out.
    """
    try:
        if not path.is_file() or path.stat().st_size == 0:
            return
        if path.suffix.lower() in suffixes:
            with path.open("rb") as file:
                content = b"".join(file.read(4096 if start else 0).split())
            if content.startswith("".join(start.split()).encode()):
                return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{path} is there and cannot be read ({reason}): choose another place") from None
    raise OutputError(
        f"{path} is there, and is not an older result of the kind that is to be written: remove it, or choose another place"
    )


def _is_there(path: Path) -> bool:
    """Whether something has this name, a broken link included; unlike ``lexists`` it tells of names that cannot be."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


@contextlib.contextmanager
def publish(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path to write to; rename it to ``path`` when the block ends well, else remove it.

    Raises:
        OutputError: the folder is not writable, the disk is full, or ``path`` is there already.
    """
    check_output(path, overwrite)
    # random: containers that share a folder may share process numbers; without the name, which may be long as it is
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with reports_write_errors(path):
            yield temporary
            if overwrite:
                os.replace(temporary, path)
            else:
                _take_name(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # what failed before says more
            temporary.unlink(missing_ok=True)


def _take_name(temporary: Path, path: Path) -> None:
    """Give a file its name unless another program has taken it since it was looked for: one of two comes first."""
    try:
        try:
            os.link(temporary, path)
            return
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        path.touch(exist_ok=False)  # as one step too, but an empty file is there for a moment
        try:
            os.replace(temporary, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    except FileExistsError:
        raise OutputError(
            f"{path} exists already, written by another program meanwhile: give --force to write over it, or choose "
            "another place"
        ) from None


@contextlib.contextmanager
def reports_write_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` of the block, which writes ``path``, into an :class:`OutputError` that says how to mend it."""
    try:
        yield
    except OSError as error:
        if isinstance(error, SparseDetrError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OutputError(
                f"no space left for {path} ({error.strerror}): free some, or choose another place"
            ) from None
        raise OutputError(f"{path} cannot be written ({error.strerror or error}): choose another place") from None
