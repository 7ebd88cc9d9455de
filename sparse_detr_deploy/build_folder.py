"""Building a file of the user's cache: one process at a time, in a folder that does not outlive the build."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from sparse_detr_deploy.process_lock import process_lock


def user_cache() -> Path:
    """The toolkit's folder in the user's cache (``XDG_CACHE_HOME``, or ``~/.cache``).

    Raises:
        OSError: there is no home folder to have one in.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "sparse-detr-deploy"
    except RuntimeError as error:
        raise OSError(str(error)) from None


@contextlib.contextmanager
def build_folder(cache: Path, name: str, waiting: Callable[[str], None]) -> Iterator[Path]:
    """An empty folder in ``cache`` to build ``name`` in, which is removed at the end, under the lock of ``name``.

    Whoever waited should look again whether there is anything left to build.

    Args:
        cache: is made where it is not there.
        name: of what is built; a plain file name.
        waiting: called with words for the process that holds the lock, before it is waited for.

    Raises:
        OSError: the cache cannot be written, or its file system has no locks.
    """
    cache.mkdir(parents=True, exist_ok=True)
    prefix = f".build-{name}-"
    with process_lock(cache / f".{name}.lock", waiting):
        for left in cache.glob(f"{prefix}*"):  # nobody else builds it now: their builds were killed
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=cache, ignore_cleanup_errors=True) as folder:
            yield Path(folder)
