"""Reading the metadata of an ONNX file without the ``onnx`` package and without loading its weights.

An ONNX file is a protobuf message ``ModelProto``; ``metadata_props`` is its field 14, a list of ``StringStringEntryProto``
(key = 1, value = 2). The other fields are skipped by their length.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from sparse_detr_deploy.errors import ArtefactError
from sparse_detr_deploy.metadata import METADATA_KEY, Metadata

_GRAPH, _METADATA_PROPS = 7, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_Buffer = bytes | mmap.mmap


def read_metadata(path: str | Path) -> Metadata:
    """Metadata of an exported ONNX file.

    Raises:
        ArtefactError: missing, empty, truncated, no ONNX, not exported by this toolkit, or of a newer schema.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise ArtefactError(f"{path} is a folder: give the .onnx file in it")
        if not path.exists():
            raise ArtefactError(f"{path} does not exist")
        if path.stat().st_size == 0:
            raise ArtefactError(f"{path} is empty: export it again")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            fields = list(_fields(buffer, 0, len(buffer)))
            entries = dict(_entry(buffer, start, end) for number, start, end in fields if number == _METADATA_PROPS)
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read ({error.strerror or error})") from None
    except (ValueError, IndexError):
        raise ArtefactError(f"{path} is truncated or not an ONNX file: export it again") from None
    if not any(number == _GRAPH for number, _, _ in fields):
        raise ArtefactError(f"{path} is not an ONNX file (it holds no graph)")
    if METADATA_KEY not in entries:
        raise ArtefactError(
            f"{path} was not made by sparse-detr-deploy (no metadata '{METADATA_KEY}'): export the checkpoint with sparse-detr-export"
        )
    return Metadata.from_json(entries[METADATA_KEY], str(path))


def _fields(buffer: _Buffer, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, start, end) of every field of one message."""
    while position < end:
        tag, position = _varint(buffer, position)
        kind, start = tag & 7, position
        if kind == _VARINT:
            _, position = _varint(buffer, position)
        elif kind == _BYTES:
            length, start = _varint(buffer, position)
            position = start + length
        elif kind in (_FIXED32, _FIXED64):
            position += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind}")
        if position > end or tag >> 3 == 0:
            raise ValueError("field beyond the end")
        yield tag >> 3, start, position


def _varint(buffer: _Buffer, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")


def _entry(buffer: _Buffer, start: int, end: int) -> tuple[str, str]:
    parts = {number: bytes(buffer[first:last]).decode() for number, first, last in _fields(buffer, start, end)}
    return parts.get(1, ""), parts.get(2, "")
