"""The part of the fake TensorRT that builds. It records what our code asks of it; an engine is the parsed ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tests.fakes.engine_files import plan_of
from tests.fakes.tensorrt_network import (
    FakeNetwork,
    FakeProfile,
    network_fault,
    profile_is_valid,
    profile_ranges,
)
from tests.fakes.tensorrt_types import (
    BuilderFlag,
    ComputeCapability,
    ILogger,
    IProgressMonitor,
    LayerType,
    MemoryPoolType,
    ProfilingVerbosity,
    Registry,
)

if TYPE_CHECKING:
    from tests.fakes.tensorrt import FakeTensorRT

STEPS = 2  # of a build
TIMINGS = b"timings"


class FakeTimingCache:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def serialize(self) -> bytes:
        return self._data


class FakeConfig:
    """Calls, and attributes that are set, are noted in the ``calls`` of the module."""

    def __init__(self, trt: FakeTensorRT, logger: ILogger) -> None:
        self._trt, self._logger = trt, logger
        self._cache: FakeTimingCache | None = None
        self._profiles: list[FakeProfile] = []
        self._plugins: list[str] = []
        self._monitor: IProgressMonitor | None = None
        self._capabilities: list[ComputeCapability | None] = [None]

    def clear_flag(self, flag: BuilderFlag) -> None:
        assert isinstance(flag, BuilderFlag)
        self._trt.record("clear_flag", flag.name)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        assert isinstance(pool, MemoryPoolType)
        self._trt.record("set_memory_pool_limit", pool.name, pool_size)

    @property
    def profiling_verbosity(self) -> ProfilingVerbosity:
        return ProfilingVerbosity.LAYER_NAMES_ONLY

    @profiling_verbosity.setter
    def profiling_verbosity(self, verbosity: ProfilingVerbosity) -> None:
        assert isinstance(verbosity, ProfilingVerbosity)
        self._trt.record("profiling_verbosity", verbosity.name)

    @property
    def num_compute_capabilities(self) -> int:
        return len(self._capabilities)

    @num_compute_capabilities.setter
    def num_compute_capabilities(self, number: int) -> None:
        assert self._trt.rtx, "full TensorRT builds for the GPU of the machine"
        self._capabilities = [None] * number

    def set_compute_capability(self, compute_capability: ComputeCapability, index: int) -> bool:
        assert self._trt.rtx
        assert isinstance(compute_capability, ComputeCapability)
        if not 0 <= index < len(self._capabilities):
            return False
        self._capabilities[index] = compute_capability
        return True

    def create_timing_cache(self, serialized_timing_cache: bytes) -> FakeTimingCache:
        assert not self._trt.rtx, "without a driver TensorRT-RTX makes none"
        self._trt.record("create_timing_cache", serialized_timing_cache)
        return FakeTimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: FakeTimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch, "timings of another GPU would be taken"
        self._cache = cache
        return True

    def get_timing_cache(self) -> FakeTimingCache | None:
        return self._cache

    @property
    def plugins_to_serialize(self) -> list[str]:
        return self._plugins

    @plugins_to_serialize.setter
    def plugins_to_serialize(self, paths: list[str]) -> None:
        self._trt.record("plugins_to_serialize", paths)
        self._plugins = paths

    @property
    def progress_monitor(self) -> IProgressMonitor | None:
        return self._monitor

    @progress_monitor.setter
    def progress_monitor(self, monitor: IProgressMonitor) -> None:
        assert isinstance(monitor, IProgressMonitor)
        assert monitor.base_initialised
        self._monitor = monitor

    def add_optimization_profile(self, profile: FakeProfile) -> int:
        if not profile_is_valid(profile):
            self._logger.log(ILogger.Severity.ERROR, "Invalid optimization profiles: ensure MIN<=OPT<=MAX")
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1


class FakeBuilder:
    def __init__(self, trt: FakeTensorRT, logger: ILogger) -> None:
        self._trt, self._logger = trt, logger
        self._registry = Registry(trt.loads, "of the builder")

    def get_plugin_registry(self) -> Registry:
        return self._registry

    def create_network(self, flags: int = 0) -> FakeNetwork:
        self._trt.record("create_network", flags)
        return FakeNetwork(self._trt, self._registry)

    def create_builder_config(self) -> FakeConfig:
        return FakeConfig(self._trt, self._logger)

    def create_optimization_profile(self) -> FakeProfile:
        return FakeProfile(self._logger)

    def build_serialized_network(self, network: FakeNetwork, config: FakeConfig) -> bytes | None:
        trt = self._trt
        trt.profiles.extend(config._profiles)
        if fault := network_fault(network, config._profiles):
            self._logger.log(ILogger.Severity.ERROR, fault)
            return None
        if config._monitor is not None and not _steps(config._monitor):
            return None
        if not trt.builds:
            self._logger.log(ILogger.Severity.ERROR, "no implementation for node X")
            return None
        if config._cache is not None:
            config._cache._data = TIMINGS
        if trt.rtx:
            trt.record("targets", [target and target.name for target in config._capabilities])
        needs = any(layer.type == LayerType.PLUGIN_V3 for layer in network._layers)
        return plan_of(network._model, profile_ranges(config._profiles), needs, bool(config._plugins))


def _steps(monitor: Any) -> bool:
    monitor.phase_start("Building engine", None, STEPS)
    monitor.phase_start("Inner phase", "Building engine", 1)
    if not monitor.step_complete("Inner phase", 0):
        return False
    monitor.phase_finish("Inner phase")
    steps: Sequence[int] = range(STEPS)
    if not all(monitor.step_complete("Building engine", step) for step in steps):
        return False
    monitor.phase_finish("Building engine")
    return True
