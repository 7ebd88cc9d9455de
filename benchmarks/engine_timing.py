"""What is measured of engines beyond the times of every artefact: stages on the GPU, several contexts, clocks, memory."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sparse_detr_deploy.benchmarks.gpu_clocks import ClockSamples
from sparse_detr_deploy.benchmarks.timing import summarise
from sparse_detr_deploy.detector import Detector
from sparse_detr_deploy.runners.tensorrt import TensorRTRunner

STAGES = ("upload", "compute", "download", "enqueue")
VARIATION_LIMIT = 0.05  # standard deviation over mean, above which a mean says little
DEFINITIONS = {
    "upload": "inputs to the GPU, CUDA events (the host's copy into page-locked memory included where it is waited for)",
    "compute": "the engine, CUDA events",
    "download": "outputs to the host, CUDA events",
    "enqueue": "the host's call that enqueues the engine, or launches its CUDA graph",
}


@dataclasses.dataclass
class StageSamples:
    """Milliseconds of each run by stage, see :data:`DEFINITIONS`."""

    upload: list[float] = dataclasses.field(default_factory=list)
    compute: list[float] = dataclasses.field(default_factory=list)
    download: list[float] = dataclasses.field(default_factory=list)
    enqueue: list[float] = dataclasses.field(default_factory=list)

    def add(self, runner: TensorRTRunner) -> None:
        """Take the last run's times."""
        times = runner.stage_times()
        for stage in STAGES:
            self.of(stage).append(getattr(times, stage))

    def of(self, stage: str) -> list[float]:
        """The samples of one of :data:`STAGES`."""
        values: list[float] = getattr(self, stage)
        return values


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Images a second of ``contexts`` execution contexts, each with a thread that runs one batch after the other."""

    contexts: int
    images_per_second: float


@dataclasses.dataclass(frozen=True)
class EngineResult:
    """Measured of one row that is an engine."""

    stages_ms: StageSamples
    throughput: list[Throughput]
    clocks: ClockSamples | None
    device_memory_mib: float | None

    @property
    def warnings(self) -> list[str]:
        """Why the times may not be what the GPU can do."""
        found = []
        compute, enqueue = (summarise(self.stages_ms.of(stage)) for stage in ("compute", "enqueue"))
        if enqueue.p50 >= compute.p50:
            found.append(
                f"enqueue-bound: the host takes {enqueue.p50:.2f} ms to enqueue {compute.p50:.2f} ms of work; CUDA graphs or "
                "larger batches help"
            )
        if compute.mean > 0 and compute.std > VARIATION_LIMIT * compute.mean:
            found.append(
                f"GPU times vary by {100 * compute.std / compute.mean:.0f} %: other work on the GPU, or unsteady clocks"
            )
        if self.throttled:
            reasons = ", ".join(
                f"{name} in {100 * share:.0f} % of the samples" for name, share in self.throttled.items()
            )
            found.append(f"throttled: {reasons}")
        return found

    @property
    def throttled(self) -> dict[str, float]:
        """Reasons for which the GPU ran below its clocks."""
        return self.clocks.throttled if self.clocks else {}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, statistics of the stages and warnings among them."""
        statistics = {stage: summarise(self.stages_ms.of(stage)).to_dict() for stage in STAGES}
        return {**dataclasses.asdict(self), "statistics": statistics, "warnings": self.warnings}

    def to_csv(self) -> dict[str, Any]:
        """Plain values without nesting."""
        columns: dict[str, Any] = {"device_memory_mib": self.device_memory_mib}
        for stage in STAGES:
            found = summarise(self.stages_ms.of(stage))
            columns |= {f"gpu_{stage}_p50_ms": found.p50, f"gpu_{stage}_p99_ms": found.p99}
        columns |= {
            f"images_per_second_{found.contexts}_contexts": found.images_per_second for found in self.throughput
        }
        if self.clocks:
            columns |= {"sm_mhz_mean": self.clocks.sm_mhz["mean"], "power_w_mean": self.clocks.power_w["mean"]}
            columns |= {"temperature_c_max": self.clocks.temperature_c["max"], "throttled": ", ".join(self.throttled)}
        return columns

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EngineResult:
        """Read what :meth:`to_dict` gave."""
        clocks = values["clocks"]
        return cls(
            StageSamples(**values["stages_ms"]),
            [Throughput(**found) for found in values["throughput"]],
            None if clocks is None else ClockSamples(**clocks),
            values["device_memory_mib"],
        )


def engine_runner(detector: Detector) -> TensorRTRunner | None:
    """The runner, if the artefact is an engine."""
    return detector.runner if isinstance(detector.runner, TensorRTRunner) else None


def measure_throughput(
    runner: TensorRTRunner, feed: Mapping[str, Any], contexts: Sequence[int], batch: int, rounds: int
) -> list[Throughput]:
    """Run ``feed`` ``rounds`` times in each of several contexts at once, from host memory to host memory.

    Args:
        runner: of the engine; it and its clones run.
        feed: inputs of one batch.
        contexts: how many run at once; one result for each.
        batch: images of ``feed``.
        rounds: runs of each context that are counted, after three that are not.
    """
    results = []
    with contextlib.ExitStack() as stack:
        runners = [runner]
        for count in contexts:
            while len(runners) < count:
                runners.append(stack.enter_context(runner.clone()))
            seconds = _time_together(runners[:count], feed, rounds)
            results.append(Throughput(count, count * rounds * batch / seconds))
    return results


def _time_together(runners: Sequence[TensorRTRunner], feed: Mapping[str, Any], rounds: int) -> float:
    """Seconds from the common start to the last end."""
    for runner in runners:
        for _ in range(3):  # the first runs capture their CUDA graph
            runner.run(feed)
    start = threading.Barrier(len(runners) + 1)
    failures: list[BaseException] = []

    def work(runner: TensorRTRunner) -> None:
        start.wait()
        try:
            for _ in range(rounds):
                runner.run(feed)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(runner,), daemon=True) for runner in runners]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if failures:
        raise failures[0]
    return seconds
