"""The part of a run that is about engines; without any it does nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from sparse_detr_deploy.benchmarks.contenders import Contender
from sparse_detr_deploy.benchmarks.engine_timing import (
    EngineResult,
    StageSamples,
    Throughput,
    engine_runner,
    measure_throughput,
)
from sparse_detr_deploy.benchmarks.gpu_clocks import ClockSampler
from sparse_detr_deploy.benchmarks.measuring import Samples
from sparse_detr_deploy.detector import Detector
from sparse_detr_deploy.errors import BackendError
from sparse_detr_deploy.images import Image
from sparse_detr_deploy.runners.tensorrt import TensorRTRunner

Say = Callable[[str], None]


class EngineBench:
    """Measures those contenders that are engines. Contenders are named by their position."""

    def __init__(self, contenders: Sequence[Contender], detectors: Mapping[Path, Detector], warn: Say) -> None:
        self._contenders, self._detectors, self._warn = contenders, detectors, warn
        self._runners: dict[int, TensorRTRunner] = {}
        for position, contender in enumerate(contenders):
            runner = engine_runner(detectors[contender.path])
            if runner is not None:
                self._runners[position] = runner
        self._stages = {position: StageSamples() for position in self._runners}
        self._ends: dict[int, list[float]] = {position: [] for position in self._runners}
        self._throughput: dict[int, list[Throughput]] = {position: [] for position in self._runners}
        self._clocks: ClockSampler | None = None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Record the stages, and sample the GPU's clocks, of what runs inside."""
        for runner in self._runners.values():
            runner.record_stages()
        if not self._runners:
            yield
            return
        first = next(iter(self._runners.values()))
        self._clocks = ClockSampler(first.pci_bus_id, self._warn)
        with self._clocks:
            yield

    def counted(self, position: int) -> None:
        """A call of that contender, which has just ended, counts: take its stages."""
        if position in self._runners:
            self._ends[position].append(time.perf_counter())
            self._stages[position].add(self._runners[position])

    def measure_throughput(
        self, images: Sequence[Image], contexts: Sequence[int], rounds: int, progress: Say = lambda text: None
    ) -> None:
        """Run each engine in several contexts at once; where they do not fit, say so and go on."""
        for position, runner in self._runners.items():
            contender = self._contenders[position]
            batch = [images[index % len(images)] for index in range(contender.batch)]
            feed = self._detectors[contender.path].preprocess(batch, keep_ratio=contender.keep_ratio)
            for count in contexts:
                progress(f"throughput of {contender.title} in {count} contexts")
                try:
                    self._throughput[position] += measure_throughput(runner, feed, [count], contender.batch, rounds)
                except BackendError as error:
                    self._warn(f"{contender.title}: no throughput of {count} contexts or more: {error}")
                    break

    def result(self, position: int, samples: Samples, device_memory_mib: float | None) -> EngineResult | None:
        """What was measured of a contender, whose counted calls took ``samples``; ``None`` if it is no engine."""
        if position not in self._runners:
            return None
        # the contenders take turns, and one may be throttled where another is not: each gets its own calls' clocks
        calls = [(end - ms / 1e3, end) for end, ms in zip(self._ends[position], samples.total, strict=True)]
        clocks = self._clocks.during(calls) if self._clocks else None
        found = EngineResult(self._stages[position], self._throughput[position], clocks, device_memory_mib)
        for text in found.warnings:
            self._warn(f"{self._contenders[position].title}: {text}")
        return found
