"""Files of ``torch.save``: the values that were pickled, and where the bytes of their tensors lie."""

from __future__ import annotations

import dataclasses
import os
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from sparse_detr_deploy.export.pickle_reader import MOST_BYTES, PickleReader, loads
from sparse_detr_deploy.export.pickled_values import PickledTensor, Unmade
from sparse_detr_deploy.export.stored_tensor import StoredTensor, check_view
from sparse_detr_deploy.export.zip_records import Extent, read_records
from sparse_detr_deploy.plain_values import check_plain
from sparse_detr_deploy.regular_files import open_regular
from sparse_detr_deploy.short_repr import shown_name

ZIP = b"PK\x03\x04"
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number of torch.save before 1.6
# Several names of one tensor count once; parts of one storage beside the whole of it make a small multiple.
MOST_SHARING = 4
_LEGACY_PROTOCOL = 1001
_MOST_VALUES = 200_000  # the state of a run: 20,000


@dataclasses.dataclass(frozen=True)
class TorchContent:
    """What was pickled, with descriptions for tensors, and the storages of the file by key.

    ``swapped`` says that their bytes stand in the other order than this machine's.
    """

    content: Any
    storages: Mapping[str, Extent]
    swapped: bool

    def locate(self, name: str, value: PickledTensor | Unmade) -> StoredTensor:
        """The place of a tensor in the file.

        Raises:
            ValueError: it is no plain dense tensor, or not in the file as it is described; the message has ``name``.
        """
        if isinstance(value, Unmade):
            raise ValueError(f"{shown_name(name)} is not a plain dense tensor: save the network in float32")
        storage, itemsize = value.storage, value.dtype.itemsize
        try:
            if storage.key not in self.storages:
                raise ValueError(f"the storage {shown_name(storage.key)} is missing")
            start, nbytes = self.storages[storage.key]
            if (storage.first + storage.elements) * itemsize > nbytes:
                raise ValueError(f"the storage {shown_name(storage.key)} is not as large as it is described")
            check_view(storage.elements, value.offset, value.shape, value.stride)
        except ValueError as error:
            raise ValueError(f"{shown_name(name)} is damaged: {error}") from None
        first = start + (storage.first + value.offset) * itemsize
        return StoredTensor(value.dtype, value.shape, value.stride, first, self.swapped)


def read_content(file: BinaryIO, size: int) -> TorchContent:
    """Read what a file of ``size`` bytes, of either format, holds.

    Raises:
        ForeignObjectError, TorchScriptError, ValueError: as the readers of pickles and archives.
        Exception: what Python raises for a damaged pickle.
    """
    file.seek(0)
    start = file.read(len(LEGACY))
    file.seek(0)
    return _read_legacy(file, size) if start == LEGACY else _read_zip(file, size)


def _read_zip(file: BinaryIO, size: int) -> TorchContent:
    records = read_records(file, size)
    folder = next(iter(records), "").partition("/")[0]
    content = loads(_record(file, records, f"{folder}/data.pkl", MOST_BYTES))
    swapped = False
    if f"{folder}/byteorder" in records:
        order = _record(file, records, f"{folder}/byteorder", 6)
        if order not in (b"little", b"big"):
            raise ValueError("its byte order is neither little nor big")
        swapped = order.decode() != sys.byteorder
    prefix = f"{folder}/data/"
    storages = {name.removeprefix(prefix): extent for name, extent in records.items() if name.startswith(prefix)}
    return TorchContent(content, storages, swapped)


def _record(file: BinaryIO, records: Mapping[str, Extent], name: str, most: int) -> bytes:
    if name not in records:
        raise ValueError("its archive lacks what torch.save writes")
    start, size = records[name]
    if size > most:
        raise ValueError(f"its record {name.rpartition('/')[2]} is larger than {most:,} bytes")
    file.seek(start)
    return file.read(size)


def _read_legacy(file: BinaryIO, size: int) -> TorchContent:
    """The format before PyTorch 1.6: five pickles, then each storage as its number of elements and its bytes."""
    reader = PickleReader(file)
    reader.load()  # the magic number
    if reader.load() != _LEGACY_PROTOCOL:
        raise ValueError("it is of another version of the format")
    reader.load()  # of the machine that wrote it
    content, keys = reader.load(), reader.load()
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise ValueError("it does not say which storages it holds")
    storages: dict[str, Extent] = {}
    place = file.tell()
    for key in keys:
        storage = reader.storages.get(key)
        if storage is None or storage.dtype is None or key in storages:
            raise ValueError(f"the storage {shown_name(key)} is unknown, of a type that is not read, or there twice")
        file.seek(place)
        (elements,) = struct.unpack("<q", file.read(8))
        nbytes = storage.elements * storage.dtype.itemsize
        if elements != storage.elements or place + 8 + nbytes > size:
            raise ValueError(f"the storage {shown_name(key)} is not as large as it is described")
        storages[key] = (place + 8, nbytes)
        place += 8 + nbytes
    return TorchContent(content, storages, swapped=sys.byteorder != "little")


def read_values(path: Path) -> Any:
    """Everything that a file of ``torch.save`` holds: nested dictionaries, lists and tuples of numbers, text and
    tensors (on the CPU). No more memory is taken than a small multiple of the file.

    Raises:
        OSError: it cannot be opened, or is no regular file.
        Exception: it is damaged, or holds something else; as :func:`read_content`.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        found = read_content(file, size)
        check_plain(found.content, _MOST_VALUES)
        known: dict[StoredTensor, Tensor] = {}
        left = MOST_SHARING * size  # bytes that may be read

        def filled(value: Any) -> Any:
            nonlocal left
            if isinstance(value, dict):
                return {key: filled(item) for key, item in value.items()}
            if isinstance(value, (list, tuple)):
                return type(value)(map(filled, value))
            if value is None or isinstance(value, (str, int, float)):
                return value
            if not isinstance(value, PickledTensor):
                raise ValueError(f"it holds a {type(value).__name__}")
            stored = found.locate("a tensor", value)
            if stored not in known:
                left -= stored.nbytes
                if left < 0:
                    raise ValueError("it describes more tensors than it holds")
                known[stored] = stored.read(file)
            return known[stored]

        return filled(found.content)
