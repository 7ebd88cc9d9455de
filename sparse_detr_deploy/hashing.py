"""Checksums of files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from sparse_detr_deploy.regular_files import open_regular


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes. Raises ``OSError`` where it is no regular file or cannot be read."""
    with open_regular(path) as file:
        return sha256_of_rest(file)


def sha256_of_rest(file: BinaryIO) -> str:
    """Hexadecimal SHA-256 of what an open file holds from its position on. Raises ``OSError`` where it cannot be read."""
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
