"""Folders of programs that replace their own files unasked: such a folder is empty at first, and marked then."""

from __future__ import annotations

import json
from pathlib import Path

from sparse_detr_deploy import __version__
from sparse_detr_deploy.errors import OutputError
from sparse_detr_deploy.export.publish import publish


def check_owned(folder: Path, mark: str, option: str) -> None:
    """Raise unless ``folder`` may be written to by the program whose folders have a file named ``mark``.

    Args:
        folder: is absent, empty or marked, else refused.
        mark: name of a file.
        option: of the program, that names the folder; for the message.

    Raises:
        OutputError: it holds files and no mark, or cannot be read.
    """
    try:
        entries = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{folder} cannot be used ({reason}): choose another {option}") from None
    if entries and mark not in entries:
        raise OutputError(
            f"{folder} holds {entries[0]} and no {mark}, so it is not of an earlier run of this program, and nothing in "
            f"it is written over: choose another {option}, or an empty folder"
        )


def mark_owned(folder: Path, mark: str) -> None:
    """Mark ``folder``, which is made where it is not there. Raises :class:`OutputError` where that is not possible."""
    with publish(folder / mark, overwrite=True) as temporary:
        temporary.write_text(json.dumps({"generator": f"sparse-detr-deploy {__version__}"}) + "\n", encoding="utf-8")
