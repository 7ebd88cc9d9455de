"""The digest by which an exported ONNX file tells that it is still what was verified.

It is the SHA-256 of the whole file, graph, weights and metadata, with the 64 digits of the digest itself read as zeros.
It tells of damage, not of malice: whoever changes a file on purpose can write a new one. Whoever rewrites the file (other
metadata, a quantiser) makes the digest wrong, as it should be: what was verified is another file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from sparse_detr_deploy.errors import ArtefactError
from sparse_detr_deploy.onnx_metadata import Entry, find_entry, parse_entry, unreadable
from sparse_detr_deploy.regular_files import open_regular

PLACEHOLDER = "0" * 64
_CHUNK = 1 << 20


def check_digest(path: str | Path) -> None:
    """Raise where an exported ONNX file is not the one that was written. Reads the whole file, at the speed of the disk.

    Raises:
        ArtefactError: it was damaged or changed, is of a version that wrote no digest, or cannot be read as in
            :func:`~sparse_detr_deploy.onnx_metadata.read_metadata`.
    """
    try:
        with open_regular(path) as file:
            entry = find_entry(file, path)
            written = parse_entry(entry, path).digest
            if not written:
                raise ArtefactError(
                    f"{path} has no digest, so nobody can tell whether it is as it was exported: it is of an older "
                    "version; export it again"
                )
            if _hash(file, _position(entry, written, path)) != written:
                raise ArtefactError(
                    f"{path} is not as it was exported (its SHA-256 is not the one in its metadata): it was damaged or "
                    "changed; copy it again, or export it again"
                )
    except OSError as error:
        raise unreadable(path, error) from None


def seal(path: Path) -> str:
    """Write the digest of a file into its metadata, where :data:`PLACEHOLDER` stands; return it."""
    with path.open("r+b") as file:
        position = _position(find_entry(file, path), PLACEHOLDER, path)
        digest = _hash(file, position)
        file.seek(position)
        file.write(digest.encode("ascii"))
    return digest


def _position(entry: Entry, digest: str, path: str | Path) -> int:
    """Where in the file the digest stands."""
    marker = f'"digest": "{digest}"'.encode("ascii")
    if entry.content.count(marker) != 1:
        raise ArtefactError(f"{path}: its metadata was rewritten by another program: export it again")
    return entry.start + entry.content.index(marker) + marker.index(digest.encode("ascii"))


def _hash(file: BinaryIO, position: int) -> str:
    """SHA-256 of the file with zeros for the digest at ``position``. Read, not mapped: a file that shrinks meanwhile
    must not end the process."""
    digest = hashlib.sha256()
    file.seek(0)
    before = position
    while before and (chunk := file.read(min(before, _CHUNK))):
        digest.update(chunk)
        before -= len(chunk)
    digest.update(PLACEHOLDER.encode("ascii"))
    file.seek(position + len(PLACEHOLDER))
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
