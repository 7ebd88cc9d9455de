"""Checkpoints written byte by byte, as no honest program writes them."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

_LEGACY_START = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}})
KEY = "transformer.level_embed"  # the first tensor that is asked for

Write = Callable[[Path], object]


def text(value: str) -> bytes:
    content = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(content)) + content


def number(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    content = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def names(name: str) -> bytes:
    module, _, last = name.rpartition(".")
    return b"c" + f"{module}\n{last}\n".encode()


def several(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def called(name: str, *parts: bytes) -> bytes:
    return names(name) + several(*parts) + b"R"


def mapping(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def storage(elements: int, kind: str = "torch.FloatStorage", key: str = "0", view: bytes = b"") -> bytes:
    return several(text("storage"), names(kind), text(key), text("cpu"), number(elements), view) + b"Q"


def tensor(
    shape: tuple[int, ...] = (4, 64),
    stride: tuple[int, ...] = (64, 1),
    offset: int = 0,
    elements: int = 256,
    kind: str = "torch.FloatStorage",
    more: bytes = b"",
    view: bytes = b"",
) -> bytes:
    sizes = several(*map(number, shape)), several(*map(number, stride))
    parts = (storage(elements, kind, view=view), number(offset), *sizes, b"\x89", called("collections.OrderedDict"))
    return called("torch._utils._rebuild_tensor_v2", *parts, more)


def pickled(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


def model(value: bytes, args: bytes = b"}", key: str = KEY) -> bytes:
    return pickled(mapping({"model": mapping({key: value}), "args": args}))


def zipped(
    content: bytes,
    storages: Mapping[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
    records: Mapping[str, bytes] | None = None,
) -> Write:
    """Write the archive of ``torch.save`` with this pickle; ``records`` come besides or in place of its own."""
    storages = {"0": bytes(1024)} if storages is None else storages
    named = {
        "x/data.pkl": content,
        "x/byteorder": b"little",
        **{f"x/data/{key}": value for key, value in storages.items()},
    }

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", compression) as file:
            for name, value in {**named, **(records or {})}.items():
                file.writestr(name, value)

    return write


def legacy(content: bytes, keys: object = ("0",), storages: bytes | None = None) -> Write:
    """Write the format before PyTorch 1.6."""
    behind = struct.pack("<q", 256) + bytes(1024) if storages is None else storages
    parts = [pickle.dumps(value, 2) for value in _LEGACY_START] + [content]
    parts += [pickle.dumps(list(keys) if isinstance(keys, tuple) else keys, 2), behind]
    return lambda path: path.write_bytes(b"".join(parts))


def safetensors(header: object, data: bytes = bytes(1024), length: int | None = None) -> Write:
    """Write a safetensors file with this header (bytes, or a value to write as JSON)."""
    described = header if isinstance(header, bytes) else json.dumps(header).encode()
    return lambda path: path.write_bytes(
        struct.pack("<Q", len(described) if length is None else length) + described + data
    )


def entry(dtype: str = "F32", shape: object = (4, 64), offsets: object = (0, 1024)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def saved(content: object, **options: Any) -> Write:
    """Write what ``torch.save`` does with a value, or with what a function gives."""

    def write(path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about kinds of tensors that are new or old
            torch.save(content() if callable(content) else content, path, **options)

    return write


def patched(write: Write, find: bytes, replacement: bytes, count: int = -1) -> Write:
    """Write as ``write`` does, with bytes replaced; they must be there."""

    def patch(path: Path) -> None:
        write(path)
        content = path.read_bytes()
        assert find in content
        path.write_bytes(content.replace(find, replacement, count))

    return patch


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def with_holes(path: Path) -> None:
    """A file of a terabyte that takes no disk."""
    zipped(model(tensor()))(path)
    with path.open("r+b") as file:
        file.truncate(2**40)


def local_bomb(path: Path) -> None:
    """Every record of the directory is the same megabyte of the file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("x/data.pkl", model(tensor()))
        file.writestr("x/data/0", bytes(2**20))
        for index in range(1, 200):
            file.filelist.append(_copied(file.getinfo("x/data/0"), f"x/data/{index}"))
        file._didModify = True
    path.write_bytes(content.getvalue())


def _copied(info: zipfile.ZipInfo, name: str) -> zipfile.ZipInfo:
    result = zipfile.ZipInfo(name, info.date_time)
    for field in ("header_offset", "file_size", "compress_size", "CRC", "compress_type", "flag_bits"):
        setattr(result, field, getattr(info, field))
    return result
