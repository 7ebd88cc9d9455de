"""Reads the pickles of ``torch.save`` as data: no class, no function and no tensor is made of what they name.

``torch.load`` is not used, not even with ``weights_only=True``: it calls PyTorch's rebuild functions with arguments
of the file, and those allocate what the file asks for (a view that reaches beyond its storage enlarges it) before
anything can be checked. Here a tensor is a description; ``stored_tensor`` checks and reads it.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from sparse_detr_deploy.export.pickled_values import (
    Arguments,
    PickledStorage,
    PickledTensor,
    Unmade,
    call,
    checked_key,
    name_of,
    storage_of,
)

# An official file with its optimizer has 0.4 MB of pickle and 80,000 instructions.
MOST_BYTES = 16 * 2**20
_MOST_STEPS = 2_000_000
_MOST_NAME = 200


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
            target[checked_key(key)] = value

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    def _global(self) -> None:
        module, name = self._line(), self._line()
        self._push(name_of(module, name))

    def _call(self) -> None:
        args, made = self._stack.pop(), self._stack.pop()
        self._push(call(made, args, self._spend))

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if type(target) is Arguments:
            target.values = state
        elif type(target) not in (dict, Unmade, PickledTensor):  # attributes of others are left out
            raise ValueError(f"the pickle sets the state of a {type(target).__name__}")

    def _storage(self) -> None:
        whole, part = storage_of(self._stack.pop())
        self.storages.setdefault(whole.key, whole)
        self._push(part)


def loads(content: bytes) -> Any:
    """The value of one pickle. Raises as :meth:`PickleReader.load`."""
    return PickleReader(io.BytesIO(content)).load()


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
