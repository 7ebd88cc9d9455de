"""The header of a safetensors file: what it holds and where, checked before a tensor is read.

The format is a length (8 bytes), a JSON object, and the bytes of the tensors one after the other.
"""

from __future__ import annotations

import math
from typing import Any, BinaryIO, TypeGuard

import torch

from sparse_detr_deploy.export.stored_tensor import MOST_DIMENSIONS, StoredTensor
from sparse_detr_deploy.plain_values import parse_json
from sparse_detr_deploy.short_repr import short_repr, shown_name

_MOST_HEADER = 16 * 2**20  # 0.1 MB of a published model
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_header(file: BinaryIO, size: int) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Tensors by name, and the metadata (text by name), of a file of ``size`` bytes.

    Raises:
        ValueError: it is not safetensors, damaged, or has tensors of a type that no network has.
    """
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(size - 8, _MOST_HEADER):
        raise ValueError(f"its header would have {length:,} bytes")
    header = parse_json(file.read(length).decode("utf-8"))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    described = header.pop("__metadata__", {})
    if not isinstance(described, dict) or not all(isinstance(value, str) for value in described.values()):
        raise ValueError("its __metadata__ is not text by name")
    tensors = {name: _tensor(name, entry, 8 + length) for name, entry in header.items()}
    end = 8 + length
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.start, tensor.nbytes)):
        if tensor.start != end:
            raise ValueError("its tensors overlap or leave gaps")
        end += tensor.nbytes
    if end != size:
        raise ValueError(f"its tensors would end at byte {end:,}, but the file has {size:,}")
    return tensors, described


def _tensor(name: str, entry: Any, start: int) -> StoredTensor:
    fields: dict[str, Any] = entry if isinstance(entry, dict) else {}
    dtype, shape, extent = (fields.get(field) for field in ("dtype", "shape", "data_offsets"))
    if not (isinstance(dtype, str) and _whole_numbers(shape) and _whole_numbers(extent) and len(extent) == 2):
        raise ValueError(f"the description of {shown_name(name)} is not complete")
    if dtype not in _DTYPES:
        raise ValueError(f"{shown_name(name)} is of the type {short_repr(dtype)}: save the network in float32")
    if len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"{shown_name(name)} has {len(shape)} dimensions")
    steps = tuple(math.prod(shape[index + 1 :]) for index in range(len(shape)))
    tensor = StoredTensor(_DTYPES[dtype], tuple(shape), steps, start + extent[0])
    if tensor.nbytes != extent[1] - extent[0]:
        raise ValueError(f"the place of {shown_name(name)} does not fit its shape")
    return tensor


def _whole_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)
