"""What is made of samples of time: percentiles, throughput, and whether they are worth quoting."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

WINDOWS = 3
WINDOW_TOLERANCE = 0.05
STABLE, UNSTABLE, TOO_FEW = "stable", "unstable", "too few rounds"
_SMALLEST_WINDOW = 3


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Of samples in milliseconds; ``fps`` is images per second at the mean time of a batch."""

    mean: float
    std: float
    p50: float
    p90: float
    p95: float
    p99: float
    fps: float

    def to_dict(self) -> dict[str, float]:
        """Plain values; those but ``fps`` with the unit in their key."""
        return {key if key == "fps" else f"{key}_ms": value for key, value in dataclasses.asdict(self).items()}


def summarise(samples: Sequence[float], batch: int = 1) -> Statistics:
    """Statistics of ``samples`` (milliseconds, at least one), each of which took ``batch`` images."""
    values = np.asarray(samples, dtype=np.float64)
    p50, p90, p95, p99 = (float(value) for value in np.percentile(values, (50, 90, 95, 99)))
    mean = float(values.mean())
    std = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return Statistics(mean, std, p50, p90, p95, p99, 1000 * batch / mean if mean > 0 else float("inf"))


@dataclasses.dataclass(frozen=True)
class Stability:
    """Medians (milliseconds) of three consecutive windows, their spread (largest / smallest − 1) and the verdict."""

    verdict: str
    window_medians_ms: tuple[float, ...] = ()
    spread: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def judge(samples: Sequence[float], tolerance: float = WINDOW_TOLERANCE) -> Stability:
    """Stable where the medians of three consecutive windows lie within ``tolerance`` of each other.

    A median that drifts means that something else than the artefact was measured: a neighbour on the machine, a clock
    that went down. Fewer than three samples a window are not judged.
    """
    if len(samples) < WINDOWS * _SMALLEST_WINDOW:
        return Stability(TOO_FEW)
    medians = tuple(float(np.median(window)) for window in np.array_split(np.asarray(samples), WINDOWS))
    spread = max(medians) / min(medians) - 1
    return Stability(STABLE if spread <= tolerance else UNSTABLE, medians, spread)
