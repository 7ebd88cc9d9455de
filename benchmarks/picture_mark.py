"""The mark in plots and pictures by which the next run knows that it may replace them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from sparse_detr_deploy.errors import OutputError
from sparse_detr_deploy.regular_files import open_regular

PROGRAM = "sparse-detr-bench"
_LOOKED_AT = 1 << 16  # bytes at either end of a file
_PNG_HEADER = 33  # signature and IHDR


def plot_metadata(image_format: str) -> dict[str, str]:
    """What ``savefig`` writes into a plot of ``png``, ``svg`` or ``pdf``."""
    return {"Software" if image_format == "png" else "Creator": PROGRAM}


def marked(content: bytes, suffix: str) -> bytes:
    """An encoded picture, ``.jpg`` or ``.png``, with the mark: a JPEG comment, or a PNG text."""
    if suffix == ".jpg":
        return b"".join((content[:2], b"\xff\xfe", struct.pack(">H", len(PROGRAM) + 2), PROGRAM.encode(), content[2:]))
    text = b"Software\0" + PROGRAM.encode()
    chunk = struct.pack(">I", len(text)) + b"tEXt" + text + struct.pack(">I", zlib.crc32(b"tEXt" + text))
    return content[:_PNG_HEADER] + chunk + content[_PNG_HEADER:]


def check_replaceable_picture(path: Path) -> None:
    """Raise :class:`OutputError` where ``path`` is a file without the mark. One that is empty may be replaced."""
    if not path.is_file():
        return
    try:
        with open_regular(path) as file:
            start = file.read(_LOOKED_AT)
            file.seek(max(0, path.stat().st_size - _LOOKED_AT))
            content = start + file.read(_LOOKED_AT)
    except OSError as error:
        raise OutputError(f"{path} is there and cannot be read ({error.strerror}): choose another name") from None
    if content and PROGRAM.encode() not in content:
        raise OutputError(f"{path} is there, and is no picture of {PROGRAM}: choose another name, or remove it")
