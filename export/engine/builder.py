"""From a prepared graph to the bytes of an engine, by TensorRT or TensorRT-RTX."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx

from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.export.engine.flavours import FLAVOURS
from sparse_detr_deploy.export.engine.inspection import check_types, inspect_engine
from sparse_detr_deploy.export.engine.network import NetworkSummary, summarise
from sparse_detr_deploy.export.engine.session import Messages, interruptible, make_logger, make_monitor
from sparse_detr_deploy.export.engine.spec import TENSORRT, TENSORRT_RTX, EngineSpec
from sparse_detr_deploy.metadata import Metadata

Progress = Callable[[str], None]


@dataclasses.dataclass
class TimingCache:
    """Timings of kernels, shared by the engines of one command; full TensorRT only."""

    data: bytes = b""


class EngineBuilder:
    """Builds engines with one flavour, one after the other."""

    def __init__(self, trt: Any, spec: EngineSpec, library: Path | None = None) -> None:
        """Load the plugins.

        Args:
            trt: module of the flavour.
            spec: what is built.
            library: the plugin library; ``None`` for standard ops.

        Raises:
            BackendError: the builder does not start, or the library does not load.
        """
        self._trt = trt
        self._spec = spec
        self._library = library
        self._cache = TimingCache()
        self._title = f"{FLAVOURS[spec.flavour].title} {trt.__version__}"
        self._messages = Messages()
        self._logger = make_logger(trt, self._messages)
        self._builder = interruptible(self._start, threading.Event())

    def _start(self) -> Any:
        try:
            builder = self._trt.Builder(self._logger)
        except Exception as error:  # without a driver
            raise BackendError(f"{self._title} does not start: {self._messages.reason(str(error))}") from None
        if self._library is not None:
            self._load(builder, self._library)
        return builder

    def _load(self, builder: Any, library: Path) -> None:
        # a builder and a runtime have a registry each, and search the process's too: the runtime that inspects the engine
        # finds the plugins there, but those of a self-contained engine in the engine only
        shared = self._trt.get_plugin_registry()
        registry = builder.get_plugin_registry() if self._spec.self_contained else shared
        known = {creator.plugin_namespace for place in (registry, shared) for creator in place.all_creators}
        if "sparse_detr" not in known and registry.load_library(str(library)) is None:
            raise BackendError(
                f"{self._title} does not load the plugin library {library}: {self._messages.reason()}; build it again "
                "with 'sparse-detr-export plugins build --force'"
            )

    def build(
        self,
        proto: onnx.ModelProto,
        metadata: Metadata,
        check: Callable[[NetworkSummary], None],
        progress: Progress = lambda message: None,
    ) -> Any:
        """The engine, as a buffer of bytes.

        Args:
            proto: the graph, as :mod:`~sparse_detr_deploy.export.engine.preparation` gives it.
            metadata: of the artefact.
            check: called with what the parsed network is, before the long work; raises to refuse it.
            progress: told what is done.

        Raises:
            BackendError: the parser or the builder fails; the message has TensorRT's own reasons.
            KeyboardInterrupt: Ctrl-C; the build was stopped.
        """
        cancelled = threading.Event()

        def work() -> Any:
            self._messages.clear()
            progress("parsing")
            with self._parsed(proto, metadata.name) as network:
                check(summarise(network))
                config = self._config(network, metadata)
                config.progress_monitor = make_monitor(self._trt, cancelled, progress)
                engine = self._builder.build_serialized_network(network, config)
                if engine is None and not cancelled.is_set():
                    raise BackendError(f"{metadata.name}: {self._title} builds no engine: {self._messages.reason()}")
                self._keep_timings(config)
                return engine

        return interruptible(work, cancelled)

    def inspect(self, engine: Any, name: str, precision: str) -> dict[str, int]:
        """Layers of a built engine by type; raises where they are not of ``precision``. Needs the engine's GPU."""
        self._messages.clear()
        reason = self._messages.reason
        counts = inspect_engine(self._trt, self._logger, engine, name, self._spec.self_contained, reason)
        check_types(name, counts, precision)
        return counts

    @contextlib.contextmanager
    def _parsed(self, proto: onnx.ModelProto, name: str) -> Iterator[Any]:
        trt = self._trt
        # the only kind from TensorRT 11 on, where the flag is ignored, has another number, and may go
        flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        network = self._builder.create_network(0 if flag is None else 1 << int(flag))
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse(proto.SerializeToString()):
            errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
            raise BackendError(f"{name}: the parser of {self._title} refuses it: {self._messages.reason(*errors)}")
        yield network
        del parser  # it owns the weights until here

    def _config(self, network: Any, metadata: Metadata) -> Any:
        trt, spec = self._trt, self._spec
        config = self._builder.create_builder_config()
        tf32 = getattr(trt.BuilderFlag, "TF32", None)
        if tf32 is not None:
            config.clear_flag(tf32)  # on by default: it rounds float32 products to 10 bits
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if spec.workspace_mib is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, spec.workspace_mib << 20)
        if spec.flavour == TENSORRT_RTX:
            config.num_compute_capabilities = len(spec.targets)
            for index, target in enumerate(spec.targets):
                config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), index)
        if spec.flavour == TENSORRT:
            config.set_timing_cache(config.create_timing_cache(self._cache.data), ignore_mismatch=False)
        if spec.self_contained and self._library is not None:
            config.plugins_to_serialize = [str(self._library)]
        profile = self._profile(network, metadata)
        if profile is not None and config.add_optimization_profile(profile) < 0:
            raise BackendError(f"{metadata.name}: {self._title} takes no such profile: {self._messages.reason()}")
        return config

    def _profile(self, network: Any, metadata: Metadata) -> Any:
        """Batch sizes, and how many tokens to keep; ``None`` where neither varies."""
        profile = self._builder.create_optimization_profile()
        varies = False
        for index in range(network.num_inputs):
            tensor = network.get_input(index)
            if tensor.name == "num_keep":
                usual = metadata.num_keep() or 1
                profile.set_shape_input(tensor.name, [1], [usual], [metadata.token_count])
                varies = True
            elif tensor.shape[0] < 0:
                rest = tuple(tensor.shape)[1:]
                profile.set_shape(tensor.name, *((batch, *rest) for batch in metadata.batch))
                varies = True
        return profile if varies else None

    def _keep_timings(self, config: Any) -> None:
        if self._spec.flavour == TENSORRT:
            cache = config.get_timing_cache()
            if cache is not None:
                self._cache.data = bytes(cache.serialize())
