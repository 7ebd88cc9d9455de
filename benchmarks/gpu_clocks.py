"""Clocks, power, temperature and throttling of a GPU while something runs, by NVML (package ``nvidia-ml-py``)."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
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


@dataclasses.dataclass(frozen=True)
class ClockSamples:
    """What the GPU did in one sampling. ``throttled`` holds each reason with the share of the samples that showed it."""

    count: int
    sm_mhz: _Numbers
    memory_mhz: _Numbers
    power_w: _Numbers
    temperature_c: _Numbers
    throttled: dict[str, float]


class ClockSampler:
    """Samples in a thread of its own between ``with`` and its end; ``result`` is then there.

    Where NVML is absent or does not answer, ``result`` stays ``None`` and ``warn`` has been told why.
    """

    def __init__(
        self, pci_bus_id: str, warn: Callable[[str], None] = lambda text: None, interval_s: float = INTERVAL_S
    ) -> None:
        self.result: ClockSamples | None = None
        self._bus, self._warn, self._interval = pci_bus_id, warn, interval_s
        self._stop = threading.Event()
        self._samples: list[tuple[float, float, float, float, int]] = []
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

    def _sample(self, device: Any) -> tuple[float, float, float, float, int]:
        nvml = self._nvml
        reasons = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)  # the name since driver 535
        if reasons is None:
            reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons
        return (
            nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM),
            nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM),
            nvml.nvmlDeviceGetPowerUsage(device) / 1000,
            nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
            int(reasons(device)),
        )

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
        if self._samples:
            self.result = summarise_clocks(self._samples)


def summarise_clocks(samples: list[tuple[float, float, float, float, int]]) -> ClockSamples:
    """Smallest, mean and largest of each quantity, and the share of samples with each reason to throttle."""
    sm, memory, power, temperature, reasons = zip(*samples, strict=True)
    shares = {name: sum(bool(seen & bit) for seen in reasons) / len(samples) for bit, name in _REASONS.items()}
    return ClockSamples(
        count=len(samples),
        sm_mhz=_spread(sm),
        memory_mhz=_spread(memory),
        power_w=_spread(power),
        temperature_c=_spread(temperature),
        throttled={name: share for name, share in shares.items() if share > 0},
    )


def _spread(values: tuple[float, ...]) -> _Numbers:
    return {"min": float(min(values)), "mean": sum(values) / len(values), "max": float(max(values))}
