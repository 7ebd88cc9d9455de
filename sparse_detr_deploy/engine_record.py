"""What the sidecar ``<engine>.json`` says of a built engine, beside the artefact's metadata.

The engine file itself stays as TensorRT wrote it, so that trtexec and other loaders read it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sparse_detr_deploy.errors import ArtefactError
from sparse_detr_deploy.file_names import name_fault
from sparse_detr_deploy.limits import MOST_METADATA_BYTES
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.metadata_check import is_count, is_mapping_of, is_sha256, is_text
from sparse_detr_deploy.plain_values import parse_json
from sparse_detr_deploy.regular_files import read_text

ENGINE_KEY = "engine"
FLAVOURS = ("tensorrt", "tensorrt-rtx")


@dataclasses.dataclass(frozen=True)
class PluginRecord:
    """The plugin library that an engine needs: file name, toolkit version, sha256, and whether the engine holds it."""

    library: str
    version: str
    sha256: str
    serialized: bool = False


@dataclasses.dataclass(frozen=True)
class EngineRecord:
    """One engine. Field names are the JSON keys below ``engine``.

    Attributes:
        flavour: ``tensorrt`` or ``tensorrt-rtx``.
        version: of the builder, as the package tells it.
        sha256: of the engine file.
        onnx_sha256: of the ONNX file that it was built from.
        precision: asked for, ``fp32`` or ``fp16``.
        layer_types: layers of the parsed network by the type of their first output, such as ``{"HALF": 812}``.
        targets: GPUs that it was built for, as ``sm89``; with ``tensorrt`` the one of the machine that built it.
        attention: what runs deformable attention, ``plugin`` or ``standard ops``.
        selection: what runs the token selection, ``plugin``, ``top-k``, ``top-k rounds`` or ``none`` (dense).
        plugin: the library that it needs; ``None`` without plugins.
        workspace_mib: limit of the builder's workspace; ``None`` for TensorRT's own.
        products: convolutions and matrix products of the parsed network by kind and type: where the arithmetic is.
        inspected: layers of the built engine by type, as its inspector tells them (``UNTOLD`` where it does not, as with
            dynamic shapes); ``None`` without a GPU.
    """

    flavour: str
    version: str
    sha256: str
    onnx_sha256: str
    precision: str
    layer_types: dict[str, int]
    targets: tuple[str, ...]
    attention: str
    selection: str
    plugin: PluginRecord | None = None
    workspace_mib: int | None = None
    products: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    inspected: dict[str, int] | None = None


def sidecar_path(engine: str | Path) -> Path:
    """``r50_rho30_800x1066.engine.json`` for ``r50_rho30_800x1066.engine``."""
    engine = Path(engine)
    return engine.with_name(f"{engine.name}.json")


def sidecar_json(metadata: Metadata, record: EngineRecord) -> str:
    """The sidecar: the metadata's document with the record under ``engine``."""
    document = {**metadata.to_dict(), ENGINE_KEY: dataclasses.asdict(record)}
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def read_sidecar(engine: str | Path) -> tuple[Metadata, EngineRecord]:
    """What the sidecar of ``engine`` says.

    Raises:
        ArtefactError: it is missing, no regular file, damaged, newer than this version reads, or not of an engine.
    """
    path = sidecar_path(engine)
    remedy = "sparse-detr-export writes it beside the engine: copy both, or build the engine again"
    try:
        text = read_text(path, MOST_METADATA_BYTES)
    except FileNotFoundError:
        raise ArtefactError(f"{path} is missing, and without it nobody knows what the engine takes: {remedy}") from None
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read ({error.strerror or error}): {remedy}") from None
    metadata = Metadata.from_json(text, str(path))
    values = parse_json(text).get(ENGINE_KEY)
    try:
        return metadata, _record(values)
    except ValueError as error:
        raise ArtefactError(f"{path} does not describe an engine ({error}): {remedy}") from None


def _is_counts(value: object) -> bool:
    return is_mapping_of(value, lambda count: type(count) is int and count >= 0)


_TEXT: tuple[Callable[[Any], bool], str] = (is_text, "a short text")
_DIGEST: tuple[Callable[[Any], bool], str] = (is_sha256, "a SHA-256 in hexadecimal")
_COUNTS: tuple[Callable[[Any], bool], str] = (_is_counts, "an object of whole numbers")
_FIELDS = {
    "flavour": (lambda value: value in FLAVOURS, f"one of {', '.join(FLAVOURS)}"),
    "version": _TEXT,
    "sha256": _DIGEST,
    "onnx_sha256": (lambda value: value == "" or is_sha256(value), _DIGEST[1]),
    "precision": _TEXT,
    "layer_types": _COUNTS,
    "targets": (lambda value: isinstance(value, list) and all(map(is_text, value)), "a list of short texts"),
    "attention": _TEXT,
    "selection": _TEXT,
    "plugin": (lambda value: value is None or isinstance(value, dict), "an object or null"),
    "workspace_mib": (lambda value: value is None or is_count(value), "a whole number of at least 1, or null"),
    "products": (lambda value: is_mapping_of(value, _is_counts), "an object of objects of whole numbers"),
    "inspected": (lambda value: value is None or _is_counts(value), f"{_COUNTS[1]}, or null"),
}
_PLUGIN_FIELDS = {
    "library": (lambda value: isinstance(value, str) and name_fault(value) is None, "the plain name of a file"),
    "version": _TEXT,
    "sha256": _DIGEST,
    "serialized": (lambda value: isinstance(value, bool), "true or false"),
}


def _record(values: Any) -> EngineRecord:
    """Raises ``ValueError`` that names the field which is missing or of another type."""
    if not isinstance(values, dict):
        raise ValueError(f"no object under {ENGINE_KEY!r}")
    taken = _checked(values, EngineRecord, _FIELDS, "")
    taken["targets"] = tuple(taken["targets"])
    if taken.get("plugin") is not None:
        taken["plugin"] = PluginRecord(**_checked(taken["plugin"], PluginRecord, _PLUGIN_FIELDS, "plugin."))
    return EngineRecord(**taken)


def _checked(
    values: dict[str, Any], kind: type[Any], checks: Mapping[str, tuple[Callable[[Any], bool], str]], prefix: str
) -> dict[str, Any]:
    """The fields of ``kind`` among ``values``; others are of later versions."""
    taken = {}
    for field in dataclasses.fields(kind):
        holds, described = checks[field.name]
        if field.name in values:
            if not holds(values[field.name]):
                raise ValueError(f"{prefix}{field.name} is not {described}")
            taken[field.name] = values[field.name]
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{prefix}{field.name} is missing")
    return taken
