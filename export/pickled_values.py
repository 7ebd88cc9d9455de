"""What the pickles of ``torch.save`` stand for: plain values, and descriptions in place of tensors and objects."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import torch

from sparse_detr_deploy.export.stored_tensor import MOST_DIMENSIONS
from sparse_detr_deploy.short_repr import short_repr

_MOST_KEY = 2**31  # larger whole numbers can be chosen so that all fall into one place of a dictionary

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_STORAGE_NAME = re.compile(r"torch\.(?:cuda\.|storage\.)?([A-Za-z0-9]+Storage)")
_NAMESPACE = "argparse.Namespace"
_ORDERED = "collections.OrderedDict"
_REBUILD = "torch._utils._rebuild_"
# what PyTorch's own reader lets through; everything else is refused by its name
_KNOWN = {
    _NAMESPACE,
    _ORDERED,
    "collections.Counter",
    "torch.nn.parameter.Parameter",
    "torch.serialization._get_layout",
    "torch.Size",
    "torch.Tensor",
    "torch.device",
    "_codecs.encode",
    "builtins.bytearray",
    "builtins.set",
    "builtins.complex",
    "torch._tensor._rebuild_from_type_v2",
    *(
        f"{_REBUILD}{name}"
        for name in (
            "parameter",
            "parameter_with_state",
            "qtensor",
            "tensor",
            "tensor_v2",
            "tensor_v3",
            "sparse_tensor",
            "meta_tensor_no_storage",
            "nested_tensor",
            "wrapper_subclass",
            "device_tensor_from_numpy",
            "device_tensor_from_cpu_tensor",
        )
    ),
}
_RENAMED = {"__builtin__": "builtins", "torch.tensor": "torch._tensor"}


class ForeignObjectError(ValueError):
    """The pickle names a class or function that no checkpoint needs; ``name`` is it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"names {name}")
        self.name = name


@dataclasses.dataclass(frozen=True)
class Name:
    """A class or function that the pickle names."""

    name: str


@dataclasses.dataclass(frozen=True)
class Unmade:
    """What the class or function of this name would have made, and nothing made."""

    name: str

    @property
    def is_tensor(self) -> bool:
        """Whether it would have been a tensor: sparse, quantised, nested, of a subclass, …"""
        return "_rebuild_" in self.name or self.name.endswith("Tensor")


@dataclasses.dataclass
class Arguments:
    """An ``argparse.Namespace``; ``values`` is whatever its state was."""

    values: Any = dataclasses.field(repr=False)  # it may hold itself


@dataclasses.dataclass(frozen=True)
class PickledStorage:
    """``elements`` numbers under ``key`` of the file, from the element ``first`` on; ``dtype`` is ``None`` where it is
    none that is read."""

    dtype: torch.dtype | None
    key: str
    elements: int
    first: int = 0


@dataclasses.dataclass(frozen=True)
class PickledTensor:
    """A strided view of a storage, not checked yet; ``dtype`` is the storage's."""

    dtype: torch.dtype
    storage: PickledStorage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def name_of(module: str, name: str) -> Name:
    """A class or function that a checkpoint may name. Raises :class:`ForeignObjectError` for any other."""
    full = f"{_RENAMED.get(module, module)}.{name}"
    if full not in _KNOWN and _STORAGE_NAME.fullmatch(full) is None and not _names_a_type_of_numbers(module, name):
        raise ForeignObjectError(full)
    return Name(full)


def call(made: Any, args: Any, spend: Callable[[int], None]) -> Any:
    """What calling ``made`` with ``args`` stands for; nothing is called.

    ``spend`` is given the number of values that are copied. Raises ``ValueError`` and what Python does for damage.
    """
    if type(made) is not Name or type(args) is not tuple:
        raise ValueError("the pickle calls something that is no function")
    if made.name == _NAMESPACE and not args:
        return Arguments({})
    if made.name == _ORDERED:
        (pairs,) = args or ([],)
        spend(len(pairs))
        return {checked_key(key): value for key, value in pairs}
    if made.name in (f"{_REBUILD}tensor", f"{_REBUILD}tensor_v2"):
        storage, offset, shape, stride = args[:4]
        is_lazy = len(args) > 6 and args[6]  # conjugated or negated where it is read
        if type(storage) is not PickledStorage or storage.dtype is None or is_lazy:
            return Unmade(made.name)
        return PickledTensor(storage.dtype, storage, *_checked_view(offset, shape, stride))
    if made.name in (f"{_REBUILD}parameter", f"{_REBUILD}parameter_with_state"):
        return args[0] if type(args[0]) is PickledTensor else Unmade(made.name)
    if made.name == "torch._tensor._rebuild_from_type_v2":  # a tensor that was given attributes of its own
        function, kind, inner = args[:3]
        is_plain = kind in (Name("torch.Tensor"), Name("torch.nn.parameter.Parameter"))
        nested = function == Name(made.name)
        return call(function, inner, spend) if is_plain and not nested else Unmade(made.name)
    return Unmade(made.name)


def storage_of(identity: Any) -> tuple[PickledStorage, PickledStorage]:
    """The storage that a persistent identity describes, whole, and the part of it that is meant.

    Raises:
        ValueError: it describes none.
    """
    if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
        raise ValueError("the pickle refers to something that is no storage")
    kind, key, _, elements = identity[1:5]
    if type(kind) is not Name or type(key) is not str or type(elements) is not int or elements < 0:
        raise ValueError("the pickle describes a storage by values of other types")
    named = _STORAGE_NAME.fullmatch(kind.name)
    whole = part = PickledStorage(_STORAGES.get(named[1]) if named else None, key, elements)
    view = identity[5] if len(identity) == 6 else None
    if view is not None:  # files of before 2018
        _, first, size = view
        if type(first) is not int or type(size) is not int or not 0 <= first <= first + size <= elements:
            raise ValueError("the pickle describes a part of a storage that is none")
        part = dataclasses.replace(whole, first=first, elements=size)
    return whole, part


def checked_key(key: Any) -> Any:
    """``key``, where it may be one of a dictionary. Raises ``ValueError``."""
    if key is None or type(key) in (str, bool) or (type(key) is int and abs(key) < _MOST_KEY):
        return key
    raise ValueError(f"a dictionary has the key {short_repr(key)}; text and small whole numbers are read")


def _checked_view(offset: Any, shape: Any, stride: Any) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    if type(shape) is not tuple or type(stride) is not tuple or max(len(shape), len(stride)) > MOST_DIMENSIONS:
        raise ValueError(f"the pickle describes a tensor of more than {MOST_DIMENSIONS} dimensions, or of none")
    if any(type(number) is not int for number in (offset, *shape, *stride)):
        raise ValueError("the pickle describes a tensor whose shape is no whole numbers")
    return offset, shape, stride


def _names_a_type_of_numbers(module: str, name: str) -> bool:
    """Whether it is ``torch.float32``, ``torch.per_tensor_affine``, ``torch.FloatTensor``, …"""
    if module not in ("torch", "torch.cuda", "torch.sparse", "torch.cuda.sparse"):
        return False
    if re.fullmatch(r"[A-Z][A-Za-z0-9]*Tensor", name):
        return True
    return module == "torch" and isinstance(vars(torch).get(name), (torch.dtype, torch.qscheme, torch.layout))
