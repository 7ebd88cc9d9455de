"""Tensors as a checkpoint describes them: known and checked before a byte of their values is read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import BinaryIO

import torch
from torch import Tensor

MOST_DIMENSIONS = 8


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file: ``start`` is the byte of its first element, ``stride`` counts elements, and ``swapped``
    says that its bytes stand in the other order than this machine's. Its elements are distinct and within the file.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    start: int
    swapped: bool = False

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return self.numel * self.dtype.itemsize

    def read(self, file: BinaryIO) -> Tensor:
        """Its values, on the CPU. Raises ``ValueError`` where the file has become shorter."""
        flat = torch.empty(_span(self.shape, self.stride), dtype=self.dtype)
        content = flat.view(torch.uint8)
        file.seek(self.start)
        if file.readinto(content.numpy().data) != len(content):  # type: ignore[attr-defined]
            raise ValueError("the file ends within a tensor")
        if self.swapped:
            content.copy_(content.reshape(-1, self.dtype.itemsize).flip(1).reshape(-1))
        return flat.as_strided(self.shape, self.stride)


def check_view(elements: int, offset: int, shape: Sequence[int], stride: Sequence[int]) -> None:
    """Raise ``ValueError`` unless a view's elements are distinct and lie within its storage of ``elements``.

    An expanded tensor is small on disk and has no bound in memory. PyTorch would enlarge the storage of a view that
    reaches beyond it.
    """
    if len(shape) != len(stride) or len(shape) > MOST_DIMENSIONS:
        raise ValueError(
            f"it has {len(shape)} dimensions and {len(stride)} strides, at most {MOST_DIMENSIONS} are read"
        )
    if any(type(number) is not int or number < 0 for number in (elements, offset, *shape, *stride)):
        raise ValueError("its shape, strides and offset must be whole numbers of 0 or more")
    if offset + _span(shape, stride) > elements:
        raise ValueError("it reaches beyond its storage")
    if 0 in shape:
        return
    extent = 0
    for step, size in sorted(zip(stride, shape, strict=True)):
        if size > 1 and step <= extent:
            raise ValueError("its elements overlap (an expanded tensor?): save it contiguous")
        extent += (size - 1) * step


def _span(shape: Sequence[int], stride: Sequence[int]) -> int:
    """Elements from the first to the last one of a view."""
    return 0 if 0 in shape else 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
