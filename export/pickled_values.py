"""The pickles of ``torch.save``, read as data: no class, no function and no tensor is made of what they name.

``torch.load`` is not used, not even with ``weights_only=True``: it calls PyTorch's rebuild functions with arguments
of the file, and those allocate what the file asks for (a view that reaches beyond its storage enlarges it) before
anything can be checked. Here a tensor is a description; ``stored_tensor`` checks and reads it.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
import re
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

import torch

from sparse_detr_deploy.export.stored_tensor import MOST_DIMENSIONS
from sparse_detr_deploy.short_repr import short_repr

# An official file with its optimizer has 0.4 MB of pickle and 80,000 instructions.
MOST_BYTES = 16 * 2**20
_MOST_STEPS = 2_000_000
_MOST_NAME = 200
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
        return "_rebuild_" in self.name or self.name.endswith((".Tensor", "Tensor"))


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


class PickleReader:
    """Reads pickles from ``file``, one after the other, of :data:`MOST_BYTES` in all.

    ``storages`` holds every storage that was named so far, by its key.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.storages: dict[str, PickledStorage] = {}
        self._file = file
        self._bytes, self._steps = MOST_BYTES, _MOST_STEPS
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The next value: plain Python values and the classes of this module.

        Raises:
            ForeignObjectError: it names a class or function that no checkpoint needs.
            ValueError: it is damaged, too large, or made by other means than ``torch.save``.
            Exception: what Python raises for a damaged one (``IndexError``, ``KeyError``, ``TypeError``, …).
        """
        self._stack, self._marked, self._memo = [], [], {}
        while True:
            code = self._read(1)
            self._spend(1)
            if code == b".":
                return self._stack.pop()
            action = _ACTIONS.get(code)
            if action is None:
                raise ValueError(f"the pickle has the instruction {code!r}, which torch.save does not write")
            action(self)

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise ValueError(f"its pickle has more than {_MOST_STEPS:,} instructions")

    def _count(self, size: int) -> int:
        self._bytes -= size
        if self._bytes < 0:
            raise ValueError(f"its pickle is larger than {MOST_BYTES:,} bytes")
        return size

    def _read(self, size: int) -> bytes:
        content = self._file.read(self._count(size))
        if len(content) != size:
            raise EOFError("the pickle is truncated")
        return content

    def _line(self) -> str:
        line = self._file.readline(_MOST_NAME + 1)
        self._count(len(line))
        if not line.endswith(b"\n"):
            raise ValueError("the pickle has a name that is too long")
        return line[:-1].decode("utf-8")

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self._read(struct.calcsize(layout)))[0]

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _remember(self, layout: str) -> None:
        self._memo[self._number(layout)] = self._stack[-1]

    def _recall(self, layout: str) -> None:
        self._push(self._memo[self._number(layout)])

    def _since_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._marked.pop()
        return items

    def _mark(self) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _text(self) -> None:
        self._push(str(self._read(self._number("<I")), "utf-8", "surrogatepass"))

    def _short_text(self) -> None:
        self._push(str(self._read(self._number("<B")), "utf-8"))

    def _long(self) -> None:
        self._push(int.from_bytes(self._read(self._number("<B")), "little", signed=True))

    def _tuple(self, size: int) -> None:
        if len(self._stack) < size:
            raise IndexError("too few values for a tuple")
        self._stack[-size:] = [tuple(self._stack[-size:])]

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise ValueError(f"the pickle appends to a {type(target).__name__}")
        target.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict:
            raise ValueError(f"the pickle sets items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_checked_key(key)] = value

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    def _global(self) -> None:
        module, name = self._line(), self._line()
        full = f"{_RENAMED.get(module, module)}.{name}"
        if full not in _KNOWN and _STORAGE_NAME.fullmatch(full) is None and not _names_a_type_of_numbers(module, name):
            raise ForeignObjectError(full)
        self._push(Name(full))

    def _call(self) -> None:
        args, made = self._stack.pop(), self._stack.pop()
        self._push(self._made(made, args))

    def _made(self, made: Any, args: Any) -> Any:
        """What calling ``made`` with ``args`` stands for."""
        if type(made) is not Name or type(args) is not tuple:
            raise ValueError("the pickle calls something that is no function")
        if made.name == _NAMESPACE and not args:
            return Arguments({})
        if made.name == _ORDERED:
            (pairs,) = args or ([],)
            self._spend(len(pairs))
            return {_checked_key(key): value for key, value in pairs}
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
            return self._made(function, inner) if is_plain and not nested else Unmade(made.name)
        return Unmade(made.name)

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if type(target) is Arguments:
            target.values = state
        elif type(target) not in (dict, Unmade, PickledTensor):  # attributes of others are left out
            raise ValueError(f"the pickle sets the state of a {type(target).__name__}")

    def _storage(self) -> None:
        identity = self._stack.pop()
        if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
            raise ValueError("the pickle refers to something that is no storage")
        kind, key, _, elements = identity[1:5]
        if type(kind) is not Name or type(key) is not str or type(elements) is not int or elements < 0:
            raise ValueError("the pickle describes a storage by values of other types")
        named = _STORAGE_NAME.fullmatch(kind.name)
        storage = PickledStorage(_STORAGES.get(named[1]) if named else None, key, elements)
        self.storages.setdefault(key, storage)
        view = identity[5] if len(identity) == 6 else None
        if view is not None:  # files of before 2018
            _, first, size = view
            if type(first) is not int or type(size) is not int or not 0 <= first <= first + size <= elements:
                raise ValueError("the pickle describes a part of a storage that is none")
            storage = dataclasses.replace(storage, first=first, elements=size)
        self._push(storage)


def loads(content: bytes) -> Any:
    """The value of one pickle. Raises as :meth:`PickleReader.load`."""
    return PickleReader(io.BytesIO(content)).load()


def _checked_key(key: Any) -> Any:
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


_ACTIONS: dict[bytes, Callable[[PickleReader], object]] = {
    pickle.PROTO: lambda self: self._read(1),
    pickle.MARK: lambda self: self._mark(),
    pickle.NONE: lambda self: self._push(None),
    pickle.NEWTRUE: lambda self: self._push(True),
    pickle.NEWFALSE: lambda self: self._push(False),
    pickle.BININT: lambda self: self._push(self._number("<i")),
    pickle.BININT1: lambda self: self._push(self._number("<B")),
    pickle.BININT2: lambda self: self._push(self._number("<H")),
    pickle.BINFLOAT: lambda self: self._push(self._number(">d")),
    pickle.LONG1: lambda self: self._long(),
    pickle.BINUNICODE: lambda self: self._text(),
    pickle.SHORT_BINSTRING: lambda self: self._short_text(),
    pickle.EMPTY_DICT: lambda self: self._push({}),
    pickle.EMPTY_LIST: lambda self: self._push([]),
    pickle.EMPTY_TUPLE: lambda self: self._push(()),
    pickle.TUPLE: lambda self: self._push(tuple(self._since_mark())),
    pickle.TUPLE1: lambda self: self._tuple(1),
    pickle.TUPLE2: lambda self: self._tuple(2),
    pickle.TUPLE3: lambda self: self._tuple(3),
    pickle.APPEND: lambda self: self._append([self._stack.pop()]),
    pickle.APPENDS: lambda self: self._append(self._since_mark()),
    pickle.SETITEM: lambda self: self._set_item(),
    pickle.SETITEMS: lambda self: self._set_items(self._since_mark()),
    pickle.BINPUT: lambda self: self._remember("<B"),
    pickle.LONG_BINPUT: lambda self: self._remember("<I"),
    pickle.BINGET: lambda self: self._recall("<B"),
    pickle.LONG_BINGET: lambda self: self._recall("<I"),
    pickle.GLOBAL: lambda self: self._global(),
    pickle.NEWOBJ: lambda self: self._call(),
    pickle.REDUCE: lambda self: self._call(),
    pickle.BUILD: lambda self: self._build(),
    pickle.BINPERSID: lambda self: self._storage(),
}
