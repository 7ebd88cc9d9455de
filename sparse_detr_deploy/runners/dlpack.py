"""DLPack capsules of arrays on a GPU, taken and given by ctypes (dlpack.h, unversioned ``DLManagedTensor``)."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

CUDA = 2  # kDLCUDA
_NAME, _USED = b"dltensor", b"used_dltensor"
_KINDS = {0: "i", 1: "u", 2: "f", 6: "b"}
_CODES = {kind: code for code, kind in _KINDS.items()}


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _ManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("manager_ctx", ctypes.c_void_p), ("deleter", _Deleter))


def _function(name: str, result: Any, *arguments: Any) -> Any:
    """A function of Python's C interface of our own, so that no other user of ctypes sees these types."""
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


_new = _function("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_pointer = _function("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
_rename = _function("PyCapsule_SetName", ctypes.c_int, ctypes.py_object, ctypes.c_char_p)
_is_unused = _function("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_raw_pointer = _function("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)


class TakenTensor:
    """What a capsule holds. ``close`` gives it back to its owner, once.

    ``dtype`` is ``None`` for types that NumPy has not; ``strides`` are in elements, ``None`` if contiguous.
    """

    def __init__(self, capsule: Any) -> None:
        """Take the tensor out of ``capsule``. Raises ``ValueError`` if there is none."""
        self._managed: _ManagedTensor | None = None
        address = _pointer(capsule, _NAME)
        managed = _ManagedTensor.from_address(address)
        _rename(capsule, _USED)
        self._managed, self._address = managed, address
        tensor = managed.tensor
        self.address = (tensor.data or 0) + tensor.byte_offset
        self.device = tensor.device_id
        self.shape = tuple(tensor.shape[: tensor.ndim])
        self.strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None
        known = tensor.lanes == 1 and tensor.bits % 8 == 0 and tensor.code in _KINDS
        self.dtype = np.dtype(f"{_KINDS[tensor.code]}{tensor.bits // 8}") if known else None

    def close(self) -> None:
        """Give the tensor back."""
        managed, self._managed = self._managed, None
        if managed is not None and managed.deleter:
            managed.deleter(self._address)


_given: dict[int, tuple[_ManagedTensor, NDArray[np.int64], object]] = {}


def _take_back(address: int) -> None:
    _given.pop(address, None)


def _take_back_unused(capsule: int) -> None:
    if _is_unused(capsule, _NAME):
        _given.pop(_raw_pointer(capsule, _NAME), None)


_give_back, _drop_unused = _Deleter(_take_back), _Deleter(_take_back_unused)  # must live as long as the process


def give(address: int, shape: tuple[int, ...], dtype: np.dtype[Any], device: int, owner: object) -> Any:
    """A capsule of a contiguous array on GPU ``device``; ``owner`` lives until it is given back."""
    sizes = np.array(shape, dtype=np.int64)
    managed = _ManagedTensor()
    tensor = managed.tensor
    tensor.data, tensor.device_type, tensor.device_id = address, CUDA, device
    tensor.ndim, tensor.shape = len(shape), sizes.ctypes.data_as(ctypes.POINTER(ctypes.c_int64))
    tensor.code, tensor.bits, tensor.lanes = _CODES[dtype.kind], 8 * dtype.itemsize, 1
    managed.deleter = _give_back
    _given[ctypes.addressof(managed)] = (managed, sizes, owner)
    return _new(ctypes.addressof(managed), _NAME, ctypes.cast(_drop_unused, ctypes.c_void_p))


def num_given() -> int:
    """How many given tensors are not given back yet."""
    return len(_given)
