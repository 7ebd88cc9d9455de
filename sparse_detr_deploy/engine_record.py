"""What the sidecar ``<engine>.json`` says of a built engine, beside the artefact's metadata.

The engine file itself stays as TensorRT wrote it, so that trtexec and other loaders read it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparse_detr_deploy.errors import ArtefactError
from sparse_detr_deploy.metadata import Metadata

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
        ArtefactError: it is missing, damaged, newer than this version reads, or not of an engine.
    """
    path = sidecar_path(engine)
    mend = "sparse-detr-export writes it beside the engine: copy both, or build the engine again"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ArtefactError(f"{path} is missing, and without it nobody knows what the engine takes: {mend}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path} cannot be read ({error}): {mend}") from None
    metadata = Metadata.from_json(text, str(path))
    values = json.loads(text).get(ENGINE_KEY)
    try:
        return metadata, _record(values)
    except (TypeError, KeyError, ValueError) as error:
        raise ArtefactError(f"{path} does not describe an engine ({error}): {mend}") from None


def _record(values: Any) -> EngineRecord:
    if not isinstance(values, Mapping):
        raise TypeError(f"no object under {ENGINE_KEY!r}")
    known = {field.name for field in dataclasses.fields(EngineRecord)}
    taken = {key: value for key, value in values.items() if key in known}
    taken["targets"] = tuple(taken["targets"])
    if taken.get("plugin") is not None:
        plugin = {field.name: taken["plugin"][field.name] for field in dataclasses.fields(PluginRecord)}
        taken["plugin"] = PluginRecord(**plugin)
    if taken["flavour"] not in FLAVOURS:
        raise ValueError(f"flavour {taken['flavour']!r}")
    for name in ("sha256", "onnx_sha256", "precision", "version"):
        if not isinstance(taken[name], str):
            raise TypeError(f"{name} is not text")
    return EngineRecord(**taken)
