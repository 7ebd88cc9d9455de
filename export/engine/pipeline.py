"""One engine after another: refuse, prepare, build, prove, publish."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnx.checker
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from sparse_detr_deploy import __version__
from sparse_detr_deploy.engine_record import EngineRecord, PluginRecord, sidecar_json
from sparse_detr_deploy.errors import ArtefactError, BackendError
from sparse_detr_deploy.export.engine.builder import EngineBuilder
from sparse_detr_deploy.export.engine.flavours import KEEPS_BODIES_FROM, check_machine, load_flavour, version_of
from sparse_detr_deploy.export.engine.network import NetworkSummary, check_plugins, check_precision
from sparse_detr_deploy.export.engine.preparation import count_calls, plugin_graph, selection_of, standard_graph
from sparse_detr_deploy.export.engine.publishing import check_pair, publish_pair
from sparse_detr_deploy.export.engine.spec import PRECISIONS, TENSORRT, EngineSpec
from sparse_detr_deploy.export.functions import CUSTOM_OPS
from sparse_detr_deploy.file_names import name_fault
from sparse_detr_deploy.hashing import sha256_of
from sparse_detr_deploy.metadata import Metadata
from sparse_detr_deploy.onnx_digest import check_digest
from sparse_detr_deploy.onnx_external_data import check_self_contained
from sparse_detr_deploy.onnx_metadata import read_metadata
from sparse_detr_deploy.plugin_library import ENVIRONMENT, LIBRARY_NAME, find_plugin_library

_log = logging.getLogger(__name__)
Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class EngineResult:
    """A published engine."""

    path: Path
    metadata: Metadata
    record: EngineRecord

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return {"path": str(self.path), "bytes": self.path.stat().st_size, **dataclasses.asdict(self.record)}


class EnginePipeline:
    """Builds engines as ``spec`` says. To make one is to check that this machine can."""

    def __init__(self, spec: EngineSpec) -> None:
        """Raises :class:`BackendError`: the flavour, its GPU or the plugin library is missing; says how to mend it."""
        self.spec = spec
        self._library = _library(spec)
        self._trt = load_flavour(spec.flavour)
        driver = check_machine(spec)
        self._targets = spec.targets or (driver.gpus[0].capability,)
        self._builder = EngineBuilder(self._trt, spec, self._library)

    def build(
        self,
        onnx_path: Path,
        output: Path,
        overwrite: bool = False,
        progress: Progress = lambda message: None,
    ) -> EngineResult:
        """Build the engine of an exported file into the folder ``output``, with its sidecar.

        Raises:
            ArtefactError: ``onnx_path`` is not an exported file, was damaged or edited, or keeps weights in other files.
            InputError: it cannot become such an engine.
            OutputError: the files cannot be written, or are there and ``overwrite`` is not given.
            BackendError: TensorRT fails, or leaves plugins aside.
            VerificationError: the network or the engine does not compute in the artefact's precision.
            KeyboardInterrupt: Ctrl-C; nothing is left.
        """
        metadata = read_metadata(onnx_path)
        self.spec.check(metadata)
        path = output / f"{metadata.name}.engine"
        check_pair(path, overwrite)
        precision = PRECISIONS[metadata.precision]
        proto = _load(onnx_path, metadata)
        calls = count_calls(proto) if self._library is not None else {}
        summaries: list[NetworkSummary] = []

        def check(summary: NetworkSummary) -> None:
            check_plugins(metadata.name, summary, calls, self.spec.allow_fallback)
            check_precision(metadata.name, summary, precision)
            summaries.append(summary)

        progress(f"{metadata.name}: preparing the graph")
        graph = self._prepared(proto, metadata)
        engine = self._builder.build(graph, metadata, check, lambda what: progress(f"{metadata.name}.engine: {what}"))
        inspected = self._builder.inspect(engine, metadata.name, precision) if self.spec.flavour == TENSORRT else None
        with publish_pair(path, overwrite) as (engine_file, sidecar_file):
            engine_file.write_bytes(engine)
            record = self._record(metadata, summaries[0], sha256_of(engine_file), sha256_of(onnx_path), inspected)
            sidecar_file.write_text(sidecar_json(metadata, record), encoding="utf-8")
        return EngineResult(path, metadata, record)

    def _prepared(self, proto: onnx.ModelProto, metadata: Metadata) -> onnx.ModelProto:
        if self._library is None:
            return standard_graph(proto, metadata)
        return plugin_graph(proto, metadata, keep_bodies=version_of(self._trt) >= KEEPS_BODIES_FROM)

    def _record(
        self,
        metadata: Metadata,
        summary: NetworkSummary,
        sha256: str,
        onnx_sha256: str,
        inspected: dict[str, int] | None,
    ) -> EngineRecord:
        plugin = None
        if self._library is not None and not CUSTOM_OPS.keys().isdisjoint(summary.plugins):
            serialized = self.spec.self_contained
            named = LIBRARY_NAME if name_fault(self._library.name) else self._library.name
            plugin = PluginRecord(named, __version__, sha256_of(self._library), serialized)
        return EngineRecord(
            flavour=self.spec.flavour,
            version=self._trt.__version__,
            sha256=sha256,
            onnx_sha256=onnx_sha256,
            precision=PRECISIONS[metadata.precision],
            layer_types=summary.layer_types,
            products=summary.products,
            inspected=inspected,
            targets=self._targets,
            attention="plugin" if "MSDeformAttn" in summary.plugins else "standard ops",
            selection=selection_of(metadata, "SelectTokens" in summary.plugins),
            plugin=plugin,
            workspace_mib=self.spec.workspace_mib,
        )


def _load(path: Path, metadata: Metadata) -> onnx.ModelProto:
    """The graph of an exported file. An engine hides what was wrong with it, so it is looked at closely here.

    Raises:
        ArtefactError: it was damaged or edited, is not valid ONNX, or keeps weights in other files.
    """
    if metadata.digest:  # files of older versions have none
        check_digest(path)
    check_self_contained(path)
    try:
        proto = onnx.load_model(path, load_external_data=False)
        onnx.checker.check_model(proto)
    except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ArtefactError(f"{path} is not valid ONNX ({reason}): export it again") from None
    return proto


def _library(spec: EngineSpec) -> Path | None:
    """The plugin library to build with; raises :class:`BackendError` where it is needed and missing."""
    if not spec.takes_plugins:
        return None
    library = find_plugin_library()
    if library is None and (spec.self_contained or not spec.allow_fallback):
        raise BackendError(
            "the plugin library is missing, and without it TensorRT would run attention as standard ops: "
            f"'sparse-detr-export plugins build' makes it, or name it by {ENVIRONMENT}; --allow-fallback builds without it"
        )
    if library is None:
        _log.warning("there is no plugin library; attention runs as standard ops")
    return library
