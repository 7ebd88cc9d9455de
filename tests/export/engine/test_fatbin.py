"""Architectures are read from fat binaries as nvcc lays them out."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from sparse_detr_deploy.export.engine.fatbin import architectures

PTX, CODE = 1, 2


def entry(kind: int, architecture: int, payload: int = 24, header: int = 64) -> bytes:
    """A header with the architecture at byte 28, and a payload."""
    start = struct.pack("<HHIQ", kind, 0x101, header, payload).ljust(28, b"\0")
    return (start + struct.pack("<I", architecture)).ljust(header, b"\0") + b"\xee" * payload


def binary(*entries: bytes, size: int | None = None) -> bytes:
    content = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(content) if size is None else size) + content


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ()),
        (binary(entry(CODE, 89)), ("sm89",)),
        (binary(entry(CODE, 120), entry(PTX, 120), entry(CODE, 89)), ("sm89", "sm120", "ptx120")),
        (b"ELF" + binary(entry(CODE, 80)) + b"more" + binary(entry(CODE, 75, payload=1000)), ("sm75", "sm80")),
        (binary(entry(CODE, 89), entry(CODE, 86), size=88), ("sm89",)),  # what lies behind the size is no entry
        (binary(entry(CODE, 7)), ()),
        (binary(entry(CODE, 1000)), ()),
        (binary(entry(CODE, 89, header=8192)), ()),
        (binary(entry(CODE, 89))[:40], ()),
    ],
)
def test_architectures(data: bytes, expected: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "x.so").write_bytes(data)
    assert architectures(tmp_path / "x.so") == expected
