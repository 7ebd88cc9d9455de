"""Whether an ONNX file keeps all its weights in itself, as every exported one does.

A tensor may name another file in its place. What that file holds is in no digest, and where it lies is up to the runtime.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from sparse_detr_deploy.errors import ArtefactError
from sparse_detr_deploy.onnx_metadata import BYTES, message_fields, unreadable
from sparse_detr_deploy.regular_files import open_regular

_MOST_FIELDS = 2_000_000  # of graphs, nodes and tensors together; a detector has 100,000
_MOST_DEPTH = 64  # of graphs in attributes of nodes in graphs
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a TensorProto
# messages of onnx.proto that tensors can lie below: by field number what a field holds
_BELOW = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        **{5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto"},
        **{22: "SparseTensorProto", 23: "SparseTensorProto"},
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}


def check_self_contained(path: str | Path) -> None:
    """Raise :class:`ArtefactError` where a tensor of an ONNX file lies in another file. No weight is read."""
    try:
        with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            external = _has_external(buffer)
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, IndexError):
        raise ArtefactError(f"{path} is truncated or not an ONNX file: export it again") from None
    if external:
        raise ArtefactError(
            f"{path} keeps weights in other files, which sparse-detr-export never does: export it again"
        )


def _has_external(buffer: mmap.mmap) -> bool:
    left = _MOST_FIELDS
    pending = [("ModelProto", 0, len(buffer), 0)]
    while pending:
        kind, position, end, depth = pending.pop()
        if depth > _MOST_DEPTH:
            raise ValueError("graphs in graphs without end")
        below = _BELOW[kind]
        for number, wire_type, start, stop in message_fields(buffer, position, end, left):
            left -= 1
            if kind == "TensorProto" and number in (_EXTERNAL_DATA, _DATA_LOCATION):
                # a location of 0 is the default: in this file
                if number == _EXTERNAL_DATA or any(buffer[start:stop]):
                    return True
            elif number in below and wire_type == BYTES:
                pending.append((below[number], start, stop, depth + 1))
    return False
