"""GPU architectures of a shared library, read from the CUDA binaries in it: no GPU and no tool of CUDA is needed.

nvcc puts fat binaries into a library: a header (magic, version, header size, size of what follows) and entries, each
with its kind (PTX or machine code), its header's and its payload's size, and the architecture.
"""

from __future__ import annotations

import struct
from pathlib import Path

_MAGIC = struct.pack("<IH", 0xBA55ED50, 1)
_HEADER = struct.Struct("<IHHQ")
_ENTRY = struct.Struct("<HHIQ")  # kind, version, header size, payload size; the architecture lies at byte 28
_ARCHITECTURE_AT = 28
_PTX = 1


def architectures(library: Path) -> tuple[str, ...]:
    """Such as ``("sm89", "sm120", "ptx120")``; empty where there is no CUDA code or its form is not known."""
    data = library.read_bytes()
    found: set[tuple[int, bool]] = set()
    start = data.find(_MAGIC)
    while 0 <= start <= len(data) - _HEADER.size:
        _, _, header_size, size = _HEADER.unpack_from(data, start)
        end = min(start + header_size + size, len(data))
        position = start + header_size
        while position + _ARCHITECTURE_AT + 4 <= end:
            kind, _, entry_header, payload = _ENTRY.unpack_from(data, position)
            (architecture,) = struct.unpack_from("<I", data, position + _ARCHITECTURE_AT)
            if not 20 <= entry_header <= 4096 or not 50 <= architecture <= 999:
                break
            found.add((architecture, kind == _PTX))
            position += entry_header + payload
        start = data.find(_MAGIC, start + 1)
    return tuple(
        f"{'ptx' if is_ptx else 'sm'}{number}" for number, is_ptx in sorted(found, key=lambda one: (one[1], one[0]))
    )
