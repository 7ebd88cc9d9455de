"""Putting a new folder in the place of an old one, which stays until the new one stands."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from sparse_detr_deploy.errors import OutputError

_log = logging.getLogger(__name__)


class FolderSwap:
    """``part`` is a new folder to fill; :meth:`swap` puts it at ``target`` and what was there at ``aside``."""

    def __init__(self, target: Path, names: Collection[str]) -> None:
        self.target, self._names = target, frozenset(names)
        self.part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        self.aside = self.part.with_suffix(".old")
        self._made = self.part.stat()

    def swap(self) -> None:
        """Put the new folder in place. Raises :class:`OutputError` where the old one holds what may not go."""
        self.part.chmod(0o755)  # mkdtemp keeps others out
        if self.target.exists():
            self.target.rename(self.aside)
            check_holds_only(self.aside, self._names, shown=self.target)  # something may have come since
        self.part.rename(self.target)

    def undo(self) -> None:
        """Put everything back as it was."""
        if self.target.exists() and os.path.samestat(self.target.stat(), self._made):
            self.target.rename(self.part)
        if self.aside.exists():
            self.aside.rename(self.target)
        shutil.rmtree(self.part, ignore_errors=True)

    def finish(self) -> None:
        """Remove the old folder."""
        try:
            if self.aside.exists():
                for path in self.aside.iterdir():
                    if path.name in self._names:
                        path.unlink(missing_ok=True)
                self.aside.rmdir()
        except OSError as error:
            _log.warning("%s, which was replaced, cannot be removed (%s)", self.aside, error.strerror or error)


@contextlib.contextmanager
def folder_swap(target: Path, names: Collection[str] = ()) -> Iterator[FolderSwap]:
    """For a block that fills ``part`` and then calls ``swap``. If it fails, everything is as before.

    Args:
        target: the folder to write; its parent must be there.
        names: the files that an old folder may hold; only these are ever removed.

    Raises:
        OutputError: ``target`` is no folder, or holds something else.
    """
    if target.exists() or target.is_symlink():
        check_holds_only(target, names)
    swap = FolderSwap(target, names)
    try:
        yield swap
    except BaseException:
        swap.undo()
        raise
    try:
        swap.finish()
    except BaseException:  # Ctrl-C: the new folder stands, so the old one goes all the same
        swap.finish()
        raise


def check_holds_only(folder: Path, names: Collection[str], shown: Path | None = None) -> None:
    """Raise :class:`OutputError` unless ``folder`` is one (no link) that holds nothing but files of these names."""
    shown = shown or folder
    if folder.is_symlink() or not folder.is_dir():
        raise OutputError(f"{shown} is no folder, so it is not replaced: move it away, or choose another place")
    for entry in sorted(folder.iterdir()):
        if entry.name not in names or entry.is_symlink() or not entry.is_file():
            raise OutputError(
                f"{shown} is not replaced, because {entry.name} in it is not of the data set that is there: "
                "move it away, or choose another place"
            )
