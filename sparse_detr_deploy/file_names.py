"""Text of a file of unknown origin that becomes a path: the one rule for what it may be."""

from __future__ import annotations

import re
import unicodedata

MOST_BYTES = 200  # in UTF-8; file systems take 255, and a suffix follows
# Windows gives these a meaning, ":" that of another drive
_SEPARATORS = frozenset('/\\:*?"<>|')
_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}
)
# control characters, invisible ones (which turn the direction of text too), halves of surrogate pairs, line breaks
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def name_fault(name: str) -> str | None:
    """Why ``name`` cannot be one plain component of a path on every system; ``None`` where it can."""
    if not name:
        return "it is empty"
    if any(unicodedata.category(character) in _UNSEEN for character in name):
        return "it holds a control character"
    if len(name.encode("utf-8")) > MOST_BYTES:
        return f"it is longer than {MOST_BYTES} bytes"
    found = next((character for character in name if character in _SEPARATORS), None)
    if found is not None:
        return f"it holds {found!r}"
    if name[0] in ".-":  # among them "." and ".."; a dash would be read as an option of a program
        return f"it begins with {name[0]!r}"
    if name[-1] in " .":
        return f"it ends with {name[-1]!r}"
    if name.split(".")[0].strip().upper() in _DEVICES:
        return "it is the name of a device on Windows"
    return None


def inner_path_fault(path: str) -> str | None:
    """Why ``path`` cannot be looked for below a folder; ``None`` where it stays there.

    Subfolders are usual in lists of images, with a slash; ``..`` and absolute paths lead out.
    """
    if not path:
        return "it is empty"
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in path):
        return "it holds a control character"
    parts = path.replace("\\", "/").split("/")
    if not parts[0] or re.match("[A-Za-z]:", path):  # a drive of Windows
        return "it is absolute"
    if ".." in parts:
        return "it holds '..'"
    return None
