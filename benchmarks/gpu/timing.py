"""Medians of calls on the GPU that are timed in turn, so that clocks and temperature touch all of them alike."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

REPLAYS = 50
WARM_UP = 5
MOST_INPUT_SETS = 16
Call = Callable[[], Any]
Stopwatch = Callable[[Sequence[Call]], Callable[[], float]]
"""From calls to a function that runs them all once and returns the microseconds of one of them."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Median of the rounds in µs; ``noise_us`` is how far the medians of the first and the second half are apart."""

    us: float
    noise_us: float


def input_sets(bytes_of_one: int, cache_bytes: int) -> int:
    """How many input sets must follow one another so that none is found in a cache of ``cache_bytes``."""
    return max(4, min(MOST_INPUT_SETS, math.ceil(2 * cache_bytes / max(1, bytes_of_one))))


def cache_size() -> int:
    """Bytes of the GPU's L2 cache."""
    return int(torch.cuda.get_device_properties(0).L2_cache_size)


def interleave(
    runs: Mapping[str, Callable[[], float]], *, rounds: int = REPLAYS, warm_up: int = WARM_UP
) -> dict[str, Timing]:
    """Call each of ``runs`` once a round, in turn; each returns the microseconds that it took."""
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(warm_up + rounds):
        for name, run in runs.items():
            elapsed = run()
            if number >= warm_up:
                samples[name].append(elapsed)
    return {name: _summary(values) for name, values in samples.items()}


def _summary(values: Sequence[float]) -> Timing:
    half = len(values) // 2
    noise = abs(statistics.median(values[:half]) - statistics.median(values[half:])) if half else 0.0
    return Timing(float(statistics.median(values)), float(noise))


def graph_stopwatch(calls: Sequence[Call]) -> Callable[[], float]:
    """Replays of a CUDA graph that holds all calls: no launch gap enters."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for call in calls:
            call()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for call in calls:
            call()
    return _event_stopwatch(graph.replay, len(calls))


def launch_stopwatch(calls: Sequence[Call]) -> Callable[[], float]:
    """The calls as they stand, launches included: for what cannot be captured."""

    def run() -> None:
        for call in calls:
            call()

    return _event_stopwatch(run, len(calls))


def time_calls(calls: Sequence[Call], *, in_graph: bool = True) -> float:
    """Median microseconds of one call, all of them in one go and many times over."""
    stopwatch = graph_stopwatch if in_graph else launch_stopwatch
    return interleave({"": stopwatch(calls)})[""].us


def _event_stopwatch(run: Call, calls: int) -> Callable[[], float]:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def elapsed() -> float:
        start.record()
        run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1000 / calls

    return elapsed
