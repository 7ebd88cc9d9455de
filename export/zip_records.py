"""Where the records of a checkpoint's ZIP archive lie.

``torch.save`` stores records as they are. A compressed one may hold any amount of zeros in a few bytes, and records
that share their bytes hold them many times, so both are refused: together the records are no larger than the file.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

_MOST_RECORDS = 100_000  # an official file with its optimizer has 2,000
_MOST_DIRECTORY = 16 * 2**20
_MOST_NAME = 512
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_IN_EXTRA, _EXTRA64 = 0xFFFFFFFF, 1


class TorchScriptError(ValueError):
    """The archive holds a program, not values."""


Extent = tuple[int, int]  # first byte in the file, number of bytes


def read_records(file: BinaryIO, size: int) -> dict[str, Extent]:
    """The records of an archive of ``size`` bytes by name.

    Raises:
        ValueError: no whole archive, or one that ``torch.save`` does not write: compressed, encrypted, with records
            that overlap or share a name.
        TorchScriptError: of them, a program.
        struct.error: truncated.
    """
    start, length, count = _directory(file, size)
    if count > _MOST_RECORDS or length > _MOST_DIRECTORY:
        raise ValueError(f"its archive has {count:,} records; at most {_MOST_RECORDS:,} are read")
    file.seek(start)
    content = file.read(length)
    headers: dict[str, Extent] = {}
    position, compressed = 0, False
    for _ in range(count):
        fields = _ENTRY.unpack_from(content, position)
        position += _ENTRY.size
        flags, method = fields[3:5]
        packed, unpacked, name_length, extra_length, comment_length = fields[8:13]
        if fields[0] != b"PK\x01\x02":
            raise ValueError("the directory of its archive is damaged")
        if name_length > _MOST_NAME:
            raise ValueError("its archive has a record of a very long name")
        name = content[position : position + name_length].decode("utf-8")
        extra = content[position + name_length : position + name_length + extra_length]
        position += name_length + extra_length + comment_length
        unpacked, packed, header = _wide((unpacked, packed, fields[-1]), extra)
        compressed |= bool(method) or bool(flags & 1) or packed != unpacked
        if name in headers:
            raise ValueError("its archive has two records of one name")
        headers[name] = (header, unpacked)
    if position != length:
        raise ValueError("the directory of its archive is damaged")
    if any(name.endswith("/constants.pkl") for name in headers):
        raise TorchScriptError("it is a TorchScript program")
    if compressed:
        raise ValueError("its archive is compressed or encrypted, which torch.save never does")
    return _located(file, headers, start)


def _directory(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """First byte, length and number of entries of the directory."""
    end = size - _END.size
    file.seek(max(end, 0))
    signature, _, _, _, count, length, start, comment = _END.unpack(file.read(_END.size))
    if signature != b"PK\x05\x06" or comment:
        raise ValueError("its archive has no end: the file is truncated")
    if end >= _LOCATOR.size + _END64.size:
        file.seek(end - _LOCATOR.size)
        signature, _, place, _ = _LOCATOR.unpack(file.read(_LOCATOR.size))
        if signature == b"PK\x06\x07":
            end = min(place, end - _LOCATOR.size - _END64.size)
            file.seek(end)
            signature, *_, count, length, start = _END64.unpack(file.read(_END64.size))
            if signature != b"PK\x06\x06":
                raise ValueError("its archive has no end: the file is truncated")
    if start + length > end:
        raise ValueError("the directory of its archive is damaged")
    return start, length, count


def _wide(values: tuple[int, int, int], extra: bytes) -> list[int]:
    """Sizes and place of a record; those that do not fit into 32 bits stand in its extra field."""
    wide = b""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == _EXTRA64:
            wide = extra[position + 4 : position + 4 + length]
        position += 4 + length
    result = []
    for value in values:
        if value == _IN_EXTRA:
            (value,), wide = struct.unpack("<Q", wide[:8]), wide[8:]
        result.append(value)
    return result


def _located(file: BinaryIO, headers: dict[str, Extent], end: int) -> dict[str, Extent]:
    """Where the content of each record lies behind its own header, before the directory at ``end``."""
    result: dict[str, Extent] = {}
    free = 0
    for name, (header, size) in sorted(headers.items(), key=lambda item: item[1]):
        if header < free:
            raise ValueError("records of its archive overlap")
        file.seek(header)
        signature, *_, name_length, extra_length = _LOCAL.unpack(file.read(_LOCAL.size))
        start = header + _LOCAL.size + name_length + extra_length
        free = start + size
        if signature != b"PK\x03\x04" or free > end:
            raise ValueError("a record of its archive is damaged or lies outside of the file")
        result[name] = (start, size)
    return result
