"""Reading the metadata of an ONNX file without the ``onnx`` package and without loading its weights.

An ONNX file is a protobuf message ``ModelProto``; ``metadata_props`` is its field 14, a list of ``StringStringEntryProto``
(key = 1, value = 2). The other fields are skipped by their length.
"""

from __future__ import annotations

import dataclasses
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sparse_detr_deploy.errors import ArtefactError
from sparse_detr_deploy.limits import MOST_METADATA_BYTES
from sparse_detr_deploy.metadata import METADATA_KEY, Metadata
from sparse_detr_deploy.regular_files import open_regular

MOST_FIELDS = 10_000  # of a file; exported ones have a few dozen, large ones of others a few hundred functions
_MOST_PARTS = 16  # of an entry, which has a key and a value
_GRAPH, _METADATA_PROPS = 7, 14
_KEY, _VALUE = 1, 2
_VARINT, _FIXED64, BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_Range = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Entry:
    """The metadata as they lie in a file: the text's bytes and where it starts."""

    start: int
    content: bytes


def read_metadata(path: str | Path) -> Metadata:
    """Metadata of an exported ONNX file.

    Raises:
        ArtefactError: missing, no regular file, empty, truncated, no ONNX, not exported by this toolkit, or of a newer
            schema.
    """
    try:
        with open_regular(path) as file:
            return parse_entry(find_entry(file, path), path)
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: str | Path, error: OSError) -> ArtefactError:
    """What to raise where the system does not open or read ``path``."""
    if isinstance(error, FileNotFoundError):
        return ArtefactError(f"{path} does not exist")
    if isinstance(error, IsADirectoryError):
        return ArtefactError(f"{path} is a folder: give the .onnx file in it")
    return ArtefactError(f"{path} cannot be read ({error.strerror or error})")


def parse_entry(entry: Entry, path: str | Path) -> Metadata:
    """The metadata in ``entry`` of the file ``path``."""
    try:
        text = entry.content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArtefactError(f"{path}: its metadata is not UTF-8 text ({error.reason}): export it again") from None
    return Metadata.from_json(text, str(path))


def find_entry(file: BinaryIO, path: str | Path) -> Entry:
    """Where the metadata of an open ONNX file lie; ``path`` names it in messages.

    Raises:
        ArtefactError: as :func:`read_metadata`.
        OSError: it cannot be read.
    """
    try:
        buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:
        raise ArtefactError(f"{path} is empty: export it again") from None
    with buffer:
        try:
            entries, has_graph = _entries(buffer)
        except (ValueError, IndexError) as error:
            reason = f" ({error})" if isinstance(error, _TooMuch) else ""
            raise ArtefactError(f"{path} is truncated or not an ONNX file{reason}: export it again") from None
        if not has_graph:
            raise ArtefactError(f"{path} is not an ONNX file (it holds no graph)")
        if not entries:
            raise ArtefactError(
                f"{path} was not made by sparse-detr-deploy (no metadata '{METADATA_KEY}'): export the checkpoint with sparse-detr-export"
            )
        if len(entries) > 1:  # which of them counts, readers of protobuf disagree on
            raise ArtefactError(f"{path} has the metadata '{METADATA_KEY}' {len(entries)} times: export it again")
        start, end = entries[0]
        if end - start > MOST_METADATA_BYTES:
            raise ArtefactError(f"{path}: its metadata is larger than {MOST_METADATA_BYTES:,} bytes: export it again")
        return Entry(start, buffer[start:end])


class _TooMuch(ValueError):
    """More fields than a file of this kind has."""


def _entries(buffer: mmap.mmap) -> tuple[list[_Range], bool]:
    """Where the values of our key are, and whether there is a graph."""
    entries, has_graph = [], False
    wanted = METADATA_KEY.encode()
    for number, kind, start, end in message_fields(buffer, 0, len(buffer), MOST_FIELDS):
        has_graph = has_graph or number == _GRAPH
        if number != _METADATA_PROPS:
            continue
        if kind != BYTES:
            raise ValueError("metadata_props is no message")
        key, value = _key_and_value(buffer, start, end)
        if key[1] - key[0] == len(wanted) and buffer[key[0] : key[1]] == wanted:
            entries.append(value)
    return entries, has_graph


def _key_and_value(buffer: mmap.mmap, start: int, end: int) -> tuple[_Range, _Range]:
    """Where both are in a ``StringStringEntryProto``; of several the last ones, as protobuf has it."""
    parts = {_KEY: (start, start), _VALUE: (start, start)}
    for number, kind, first, last in message_fields(buffer, start, end, _MOST_PARTS):
        if number in parts:
            if kind != BYTES:
                raise ValueError("a key or value is no text")
            parts[number] = (first, last)
    return parts[_KEY], parts[_VALUE]


def message_fields(buffer: mmap.mmap, position: int, end: int, most: int) -> Iterator[tuple[int, int, int, int]]:
    """(number, wire type, start, end) of every field of the protobuf message at ``position`` to ``end``.

    Raises:
        ValueError, IndexError: it is no message, or has more than ``most`` fields.
    """
    count = 0
    while position < end:
        count += 1
        if count > most:
            raise _TooMuch(f"a message of more than {most:,} fields")
        tag, position = _varint(buffer, position)
        kind, start = tag & 7, position
        if kind == _VARINT:
            _, position = _varint(buffer, position)
        elif kind == BYTES:
            length, start = _varint(buffer, position)
            position = start + length
        elif kind in (_FIXED32, _FIXED64):
            position += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind}")
        if position > end or tag >> 3 == 0:
            raise ValueError("field beyond the end")
        yield tag >> 3, kind, start, position


def _varint(buffer: mmap.mmap, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                raise ValueError("varint too long")
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")
