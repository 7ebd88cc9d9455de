"""Metadata, ONNX files and engine sidecars: what an artefact says of itself."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
from typing import Any

import numpy as np
import onnx

from sparse_detr_deploy.engine_record import EngineRecord, PluginRecord, read_sidecar, sidecar_json
from sparse_detr_deploy.metadata import METADATA_KEY, Metadata
from sparse_detr_deploy.onnx_metadata import read_metadata
from sparse_detr_deploy.preprocessing import prepare
from tests.fuzz.harness import Case, Target

VALID = Metadata(
    name="r50_rho30_96x128",
    architecture="r50",
    model={"two_stage": True, "num_queries": 20, "rho": 0.3},
    height=96,
    width=128,
    level_shapes=((12, 16), (6, 8), (3, 4), (2, 2)),
    batch=(1, 1, 4),
    rho=0.3,
    num_detections=20,
    num_queries=20,
    num_classes=5,
    class_names=("cat", "dog", "bird", "größe", "ρ"),
    custom_ops={"MSDeformAttn": 4, "SelectTokens": 1},
    checkpoint={"file": "tiny.pth", "sha256": "0" * 64},
    versions={"torch": "2.13.0"},
    verification={"passed": True, "cases": [{"batch": 1, "max_score_error": 1e-7}]},
    gmacs_fixed=1.5,
    gmacs_per_kept_token=0.0007,
    toolkit_version="0.1.0",
)
_FORBIDDEN = set("/\\\0\n\r\t\x1b")


def run_metadata(case: Case) -> None:
    """``Metadata.from_json``."""
    valid = json.loads(VALID.to_json())
    if case.mutated:
        document = case.mutator.document(valid)
    else:  # some fields of each kind, every value drawn
        document = {key: case.mutator.value() if case.mutator.chance(0.3) else value for key, value in valid.items()}
    check_metadata(Metadata.from_json(case.mutator.json(document), "x.onnx"))


def is_component(name: str) -> bool:
    """Whether a file of this name lies in the folder that it is joined to."""
    return name not in ("", ".", "..") and not _FORBIDDEN & set(name)


def check_metadata(metadata: Metadata) -> None:
    """What the code that uses accepted metadata relies on."""
    name = metadata.name
    assert is_component(name), f"the name {name[:80]!r} is no path component"
    name.encode()  # no lone surrogates
    assert len(name.encode()) <= 255, "no file system takes a name so long"
    again = Metadata.from_json(metadata.to_json())
    assert dataclasses.astuple(again) == dataclasses.astuple(metadata)
    assert metadata.token_count < 2**31
    assert metadata.height * metadata.width * metadata.batch[2] <= 2**30, "a warm-up would take 12 GB"
    assert metadata.num_keep() is None or 1 <= (metadata.num_keep() or 0) <= metadata.token_count
    gmacs = metadata.gmacs()
    assert gmacs is None or math.isfinite(gmacs)
    if metadata.height * metadata.width <= 2**20:
        images = [np.full((40, 30, 3), 255, dtype=np.uint8)]
        feed = prepare(images, metadata)
        assert all(np.isfinite(values).all() for values in feed.values())


@functools.cache
def _onnx_file() -> bytes:
    weight = onnx.numpy_helper.from_array(np.arange(50, dtype=np.float32), "weight")
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [50])
    node = onnx.helper.make_node("Identity", ["weight"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [output], [weight]))
    onnx.helper.set_model_props(model, {"other": "thing", METADATA_KEY: VALID.to_json()})
    return bytes(model.SerializeToString())


def run_onnx_file(case: Case) -> None:
    """``read_metadata``, which parses the protobuf message itself."""
    if case.mutated:
        content = case.mutator.data(_onnx_file())
    else:
        content = _message(case, 0)
    path = case.folder / "x.onnx"
    path.write_bytes(content)
    check_metadata(read_metadata(path))


def _message(case: Case, depth: int) -> bytes:
    """A protobuf message of drawn fields."""
    random, parts = case.mutator.random, []
    for _ in range(random.randrange(8)):
        number, kind = random.choice((1, 7, 14, 14, 20, 25, 2**28)), random.choice((0, 1, 2, 2, 2, 3, 4, 5, 6, 7))
        payload = _payload(case, kind, depth)
        parts.append(_varint((number << 3) | kind) + payload)
    if case.mutator.chance(0.1):
        parts.append(b"\x7a\x00" * random.choice((10, 100_000)))
    return b"".join(parts)


def _payload(case: Case, kind: int, depth: int) -> bytes:
    mutator = case.mutator
    if kind == 0:
        return _varint(mutator.pick((0, 1, 2**63, 2**70)))
    if kind != 2:
        return mutator.random.randbytes(8 if kind == 1 else 4 if kind == 5 else 0)
    inner = mutator.pick((METADATA_KEY.encode(), VALID.to_json().encode(), mutator.noise(), b""))
    if depth < 2 and mutator.chance(0.6):
        inner = _message(case, depth + 1)
    elif mutator.chance(0.4):  # an entry of metadata_props
        document = mutator.json(mutator.document(json.loads(VALID.to_json()))).encode("utf-8", "surrogatepass")
        key = METADATA_KEY.encode()
        inner = b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(document)) + document
    length = mutator.pick((0, 2**31, 2**63, len(inner) + 1)) if mutator.chance(0.1) else len(inner)
    return _varint(length) + inner


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(0x80 | value & 0x7F)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def run_sidecar(case: Case) -> None:
    """``read_sidecar`` of an engine."""
    record = EngineRecord(
        flavour=case.mutator.pick(("tensorrt", "tensorrt-rtx")),
        version="10.16.1.11",
        sha256="a" * 64,
        onnx_sha256="b" * 64,
        precision="fp16",
        layer_types={"HALF": 812, "FLOAT": 3},
        targets=("sm89",),
        attention="plugin",
        selection="plugin",
        plugin=PluginRecord("libsparse_detr_plugins.so", "0.1.0", "c" * 64),
        workspace_mib=512,
        products={"convolution": {"HALF": 53}},
        inspected={"HALF": 40},
    )
    document: Any = json.loads(sidecar_json(VALID, record))
    if case.mutated:
        document["engine"] = case.mutator.document(document["engine"])
        if case.mutator.chance(0.2):
            document = case.mutator.document(document)
    else:
        document["engine"] = {
            key: case.mutator.value() if case.mutator.chance(0.3) else value
            for key, value in document["engine"].items()
        }
    engine = case.folder / "x.engine"
    if not case.mutated and case.mutator.chance(0.02):
        engine = case.folder / "fifo.engine"
        if not (case.folder / "fifo.engine.json").exists():
            os.mkfifo(case.folder / "fifo.engine.json")
    (case.folder / "x.engine.json").write_bytes(case.mutator.json(document).encode("utf-8", "surrogatepass"))
    metadata, found = read_sidecar(engine)
    check_metadata(metadata)
    _check_record(found)


def _check_record(record: EngineRecord) -> None:
    assert all(isinstance(text, str) for text in record.targets), "targets that are no text"
    ", ".join(record.targets)
    assert record.flavour in ("tensorrt", "tensorrt-rtx")
    assert all(isinstance(text, str) for text in (record.version, record.sha256, record.onnx_sha256, record.precision))
    for counts in (record.layer_types, *record.products.values(), record.inspected or {}):
        assert all(type(count) is int and count >= 0 for count in counts.values())
    assert record.workspace_mib is None or record.workspace_mib >= 1
    if record.plugin is not None:
        assert type(record.plugin.serialized) is bool
        library = record.plugin.library
        assert library not in ("", ".", "..")
        assert not _FORBIDDEN & set(library)


TARGETS = (
    Target("metadata", run_metadata, 22),
    Target("onnx-file", run_onnx_file, 22),
    Target("sidecar", run_sidecar, 14),
)
