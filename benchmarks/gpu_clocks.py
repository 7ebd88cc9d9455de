"""Clocks, power, temperature and throttling of a GPU while something runs, by NVML (package ``nvidia-ml-py``)."""

from __future__ import annotations

import bisect
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

INTERVAL_S = 0.1
# bits of nvmlDeviceGetCurrentClocksEventReasons, as documented in NVML's "Clocks Event Reasons"
_REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
_Numbers = dict[str, float]
Call = tuple[float, float]  # start and end, seconds of time.perf_counter


@dataclasses.dataclass(frozen=True)
class ClockSample:
    """One reading; ``began`` and ``ended`` are seconds of ``time.perf_counter``, ``reasons`` NVML's bits."""

    began: float
    ended: float
    sm_mhz: float
    memory_mhz: float
    power_w: float
    temperature_c: float
    reasons: int


@dataclasses.dataclass(frozen=True)
class ClockSamples:
    """What the GPU did during some calls. ``throttled`` holds each reason with the share of the samples that showed it."""

    count: int
    sm_mhz: _Numbers
    memory_mhz: _Numbers
    power_w: _Numbers
    temperature_c: _Numbers
    throttled: dict[str, float]


class ClockSampler:
    """Samples in a thread of its own between ``with`` and its end; :meth:`during` then tells of what ran meanwhile.

    Where NVML is absent or does not answer there are no samples, and ``warn`` has been told why.
    """

    def __init__(
        self, pci_bus_id: str, warn: Callable[[str], None] = lambda text: None, interval_s: float = INTERVAL_S
    ) -> None:
        self._bus, self._warn, self._interval = pci_bus_id, warn, interval_s
        self._stop = threading.Event()
        self._samples: list[ClockSample] = []
        self._failure = ""
        self._thread: threading.Thread | None = None
        self._nvml: Any = None

    def __enter__(self) -> ClockSampler:
        try:
            import pynvml

            pynvml.nvmlInit()
        except ImportError:
            self._warn("clocks and throttling are not watched: pip install nvidia-ml-py")
            return self
        except Exception as error:  # NVMLError, a class that pynvml makes as it goes
            self._warn(f"clocks and throttling are not watched: NVML does not start ({error})")
            return self
        self._nvml = pynvml
        self._thread = threading.Thread(target=self._watch, name="gpu-clocks", daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        try:
            # by the bus: NVML counts GPUs in another order than CUDA
            device = self._nvml.nvmlDeviceGetHandleByPciBusId(self._bus.encode())
            while True:
                self._samples.append(self._sample(device))
                if self._stop.wait(self._interval):
                    return
        except Exception as error:
            self._failure = str(error)

    def _sample(self, device: Any) -> ClockSample:
        nvml = self._nvml
        began = time.perf_counter()
        reasons = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)  # the name since driver 535
        if reasons is None:
            reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons
        values = (
            nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM),
            nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM),
            nvml.nvmlDeviceGetPowerUsage(device) / 1000,
            nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
            int(reasons(device)),
        )
        return ClockSample(began, time.perf_counter(), *values)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join()
        self._nvml.nvmlShutdown()
        if self._failure:
            self._warn(f"clocks and throttling were not watched to the end: NVML failed ({self._failure})")

    def during(self, calls: Sequence[Call]) -> ClockSamples | None:
        """What the GPU did in ``calls``, see :func:`samples_during`; ``None`` without samples of them."""
        samples = samples_during(self._samples, calls, self._interval)
        return summarise_clocks(samples) if samples else None


def samples_during(samples: Sequence[ClockSample], calls: Sequence[Call], interval_s: float) -> list[ClockSample]:
    """Those of ``samples``, in their order, that lie inside one of ``calls``.

    A call that holds none, being shorter than the interval, takes the nearest one, if that is no further than two
    intervals away: beyond, the sampler was not watching.
    """
    began, ended = [sample.began for sample in samples], [sample.ended for sample in samples]
    chosen: set[int] = set()
    for start, end in calls:
        inside = range(bisect.bisect_left(began, start), bisect.bisect_right(ended, end))
        near = range(max(inside.start - 1, 0), min(inside.start + 1, len(samples)))
        if inside or not near:
            chosen.update(inside)
            continue
        apart = {index: max(began[index] - end, start - ended[index]) for index in near}
        nearest = min(near, key=lambda index: apart[index])
        if apart[nearest] <= 2 * interval_s:
            chosen.add(nearest)
    return [samples[index] for index in sorted(chosen)]


def summarise_clocks(samples: Sequence[ClockSample]) -> ClockSamples:
    """Smallest, mean and largest of each quantity, and the share of samples with each reason to throttle."""
    shares = {
        name: sum(bool(sample.reasons & bit) for sample in samples) / len(samples) for bit, name in _REASONS.items()
    }
    return ClockSamples(
        count=len(samples),
        sm_mhz=_spread([sample.sm_mhz for sample in samples]),
        memory_mhz=_spread([sample.memory_mhz for sample in samples]),
        power_w=_spread([sample.power_w for sample in samples]),
        temperature_c=_spread([sample.temperature_c for sample in samples]),
        throttled={name: share for name, share in shares.items() if share > 0},
    )


def _spread(values: Sequence[float]) -> _Numbers:
    return {"min": float(min(values)), "mean": sum(values) / len(values), "max": float(max(values))}
