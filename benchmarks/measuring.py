"""Timing contenders against each other: one turn each per round, so that a change of the machine hits all alike.

A turn is a call that does not count and one that does: so every contender is timed with its own weights in the caches,
as it runs in production, also a dynamic file, which has a turn for each ratio, beside files that have one each.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from sparse_detr_deploy.benchmarks.contenders import Contender
from sparse_detr_deploy.detector import Detector
from sparse_detr_deploy.images import Image

PARTS = ("preprocess", "inference", "postprocess", "total")


@dataclasses.dataclass
class Samples:
    """Milliseconds of each call, by part; a call takes one batch."""

    preprocess: list[float] = dataclasses.field(default_factory=list)
    inference: list[float] = dataclasses.field(default_factory=list)
    postprocess: list[float] = dataclasses.field(default_factory=list)

    @property
    def total(self) -> list[float]:
        """The three parts of each call together."""
        return [sum(parts) for parts in zip(self.preprocess, self.inference, self.postprocess, strict=True)]

    def of(self, part: str) -> list[float]:
        """The samples of one of :data:`PARTS`."""
        values: list[float] = getattr(self, part)
        return values


def rotations(count: int, rounds: int) -> Iterator[tuple[int, ...]]:
    """The order of ``count`` contenders in each round: every one comes first, second, … equally often."""
    for index in range(rounds):
        first = index % count
        yield (*range(first, count), *range(first))


def measure(
    contenders: Sequence[Contender],
    detectors: Mapping[Path, Detector],
    images: Sequence[Image],
    warmup: int = 2,
    rounds: int = 20,
    progress: Callable[[str], None] = lambda message: None,
    counted: Callable[[int], None] = lambda position: None,
) -> list[Samples]:
    """Time the contenders round-robin.

    Args:
        contenders: what to time.
        detectors: loaded, by path.
        images: uint8 BGR images [H, W, 3], at least one; all contenders of a round get the same.
        warmup: rounds that are not counted.
        rounds: rounds that are.
        progress: told before each call what is called.
        counted: told after each call that counts which contender it was of.

    Returns:
        Samples of each contender.
    """
    results = [Samples() for _ in contenders]
    largest = max(contender.batch for contender in contenders)
    stream = itertools.cycle(images)
    for index, order in enumerate(rotations(len(contenders), warmup + rounds)):
        batch = list(itertools.islice(stream, largest))
        for position in order:
            contender = contenders[position]
            progress(f"{'timing' if index >= warmup else 'warming up'} {contender.title}")
            detector, own = detectors[contender.path], batch[: contender.batch]
            time_call(detector, own, contender.keep_ratio)
            times = time_call(detector, own, contender.keep_ratio)
            if index >= warmup:
                for part, duration in zip(PARTS, times, strict=False):
                    results[position].of(part).append(duration)
                counted(position)
    return results


def time_call(detector: Detector, images: Sequence[Image], keep_ratio: float | None) -> tuple[float, float, float]:
    """Milliseconds of pre-processing, inference and post-processing of one batch."""
    start = time.perf_counter()
    feed = detector.preprocess(images, keep_ratio=keep_ratio)
    prepared = time.perf_counter()
    outputs = detector.runner.run(feed)
    inferred = time.perf_counter()
    detector.postprocess(outputs, [image.shape[:2] for image in images])
    finished = time.perf_counter()
    return 1e3 * (prepared - start), 1e3 * (inferred - prepared), 1e3 * (finished - inferred)
